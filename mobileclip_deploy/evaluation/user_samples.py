"""A user's own pictures and texts for learning, without duplicates and without those that the gates judge by."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files import content_sha256
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.minimum_samples import Needed
from mobileclip_deploy.network.model.preprocessing import decode_image, load_batch, preprocess
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import Variant
from mobileclip_deploy.network.samples import calibration_prompts, image_paths, prompts
from mobileclip_deploy.pictures.image_sources import ImageSource, read_image


def different_pictures(
    folder: Path, files: Sequence[Path], needed: Needed, variant: Variant, dataset: Dataset | None
) -> tuple[npt.NDArray[np.float32], int]:
    """Loads the different pictures as the image tower takes them, float32 [N, 3, S, S] in [0, 1], and counts the
    duplicates.

    Args:
        folder: folder of the files, for messages.
        dataset: dataset on which accuracy will be compared; None if there is none.

    Raises:
        InvalidInput: too few pictures, or one that cannot be read; a picture that the gates look at.
    """
    needed.check(folder, files)
    pixels = load_batch(files, variant.preprocess)
    first: dict[str, int] = {}
    for index, picture in enumerate(pixels):
        first.setdefault(content_sha256(picture.tobytes()), index)
    if len(first) < needed.pictures:
        raise InvalidInput(
            f"{folder} holds {len(first)} different pictures in {len(files)} files; {needed.what} needs "
            f"{needed.pictures} at least"
        )
    judged_by: list[ImageSource] = [*image_paths(), *(dataset.images if dataset is not None else ())]
    for source in judged_by:
        picture = preprocess(decode_image(read_image(source), str(source)), variant.preprocess)
        same = first.get(content_sha256(picture.tobytes()))
        if same is not None:
            raise InvalidInput(
                f"{files[same]} is the picture {source}, which the gates measure on, so it cannot be learned from; "
                "remove it, or give another set"
            )
    return pixels[list(first.values())], len(files) - len(first)


def different_texts(
    texts: Sequence[str], variant: Variant, dataset: Dataset | None
) -> tuple[list[npt.NDArray[np.int64]], int]:
    """Returns the token ids [L] of the different texts without those of the gates, and the number of texts left out."""
    judged_by = {row.tobytes() for row in encode(judged_texts(dataset), variant.tokens)}
    different = {row.tobytes(): row for row in encode(texts, variant.tokens)} if texts else {}
    remaining = [row for key, row in different.items() if key not in judged_by]
    return remaining, len(texts) - len(remaining)


def judged_texts(dataset: Dataset | None) -> list[str]:
    """Returns the texts that the gates use."""
    texts = [*prompts(), *calibration_prompts()]
    if dataset is None:
        return texts
    classes = [template.replace("{}", name) for template in dataset.templates for name in dataset.classes]
    return [*texts, *dataset.captions, *classes]
