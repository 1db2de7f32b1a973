"""Synthetic captions by a CoCa model of open_clip, drawn as MobileCLIP's were (arXiv 2311.17049, section 3.2).

The settings are those of apple/ml-mobileclip-dr, scripts/gen.py (`CaptionModel`) at commit 418551d. They are nucleus
sampling at 0.9 and five to thirty tokens. A caption is cut at the end of the text and at the first full stop.
open_clip's own `generate` needs transformers and draws from torch's global generator. Here each image has its own
generator, so that its captions depend on the seed and its index.
"""

import hashlib
import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mobileclip_deploy.base.files import file_sha256, write_whole
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.base.scheduling import Failed, Task, run_tasks
from mobileclip_deploy.errors import InvalidInput, UsageError, first_sentence, suggestion
from mobileclip_deploy.evaluation.pairs import Pair, Pairs
from mobileclip_deploy.network.model.preprocessing import load_image
from mobileclip_deploy.network.model.tokenizer import CLIP
from mobileclip_deploy.pictures.text_files import LINE_BYTES

TOP_P, LONGEST, SHORTEST = 0.9, 30, 5
START, END, PAD = CLIP.first[0], CLIP.eot, CLIP.pad  # open_clip's CoCa models have CLIP's vocabulary
STARTS, ENDS = "<start_of_text>", "<end_of_text>"
BATCH = 8
"""Images that are captioned together: one task, and one line of the file of finished captions."""
OWN_BYTES, PIXEL_BYTES = 700_000_000, 240


@dataclass(frozen=True)
class Captioner:
    """A CoCa model in eval mode, the transform of its images, a hash of its weights, and the name to load it by."""

    model: Any
    preprocess: Callable[[Image.Image], Tensor]
    identity: str
    name: str

    @property
    def memory(self) -> int:
        """Upper bound of the bytes of a process that captions a batch. It counts the process, the weights twice (while
        they are read), the image tower's activations, and logits of all tokens. For CoCa ViT-L/14 7 GB, which was not
        measured."""
        weights = sum(weight.numel() for weight in self.model.parameters())
        side = self.model.visual.image_size
        pixels = side[0] * side[1] if isinstance(side, tuple) else side * side
        return OWN_BYTES + 8 * weights + BATCH * (pixels * PIXEL_BYTES + LONGEST * CLIP.vocab_size * 8)

    @torch.no_grad()
    def captions(
        self, images: Sequence[Image.Image], count: int, generators: Sequence[torch.Generator]
    ) -> list[list[str]]:
        """Draws `count` captions of each RGB image by that image's generator."""
        pixels = torch.stack([self.preprocess(image) for image in images])
        seen = self.model(pixels)  # without texts: features of the images, computed once and not at each token

        def logits(texts: Tensor) -> Tensor:
            image = {"image_latent": seen["image_features"], "image_embs": seen["image_embs"]}
            outputs = self.model(pixels, texts, output_labels=False, **image)
            last: Tensor = outputs["logits"][:, -1]
            return last

        drawn = [_draw(logits, len(images), generators) for _ in range(count)]
        return [[_text(ids[index]) for ids in drawn] for index in range(len(images))]


def load_captioner(name: str) -> Captioner:
    """Loads a CoCa model by its name: ARCHITECTURE:FILE, ARCHITECTURE:TAG of open_clip's published weights, or
    hf-hub:OWNER/NAME. Files are read without executing anything in them.

    Raises:
        UsageError: open_clip lacks the architecture, or it writes no captions.
        InvalidInput: the weights cannot be read, or are of another architecture.
    """
    import open_clip

    architecture, _, weights = (name, "", "") if name.startswith("hf-hub:") else name.partition(":")
    architectures = open_clip.list_models()
    if weights and architecture not in architectures:
        captioners = [each for each in architectures if each.startswith("coca")]
        raise UsageError(
            f"open_clip has no {architecture!r}{suggestion(architecture, captioners)}; known: {', '.join(captioners)}"
        )
    if not weights and not name.startswith("hf-hub:"):
        raise UsageError(f"{name!r} is not a captioner; give ARCHITECTURE:FILE, ARCHITECTURE:TAG or hf-hub:OWNER/NAME")
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(architecture, pretrained=weights or None)
    except Exception as error:  # its loaders raise RuntimeError, OSError, UnpicklingError, KeyError, ...
        reason = first_sentence(error, 160)
        raise InvalidInput(
            f"the captioner {name} cannot be loaded (open_clip: {reason!r}); give a file of that model"
        ) from error
    if not isinstance(model, open_clip.CoCa):
        raise UsageError(f"{name} is not a CoCa model and cannot write captions; use one, such as coca_ViT-L-14")
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode() + value.contiguous().numpy().tobytes())
    if Path(weights).is_file():  # for processes that run elsewhere
        name = f"{architecture}:{Path(weights).absolute()}"
    return Captioner(model.eval().requires_grad_(False), preprocess, digest.hexdigest(), name)


def nucleus(logits: Tensor, share: float = TOP_P) -> Tensor:
    """Returns probabilities [N, V] of the fewest tokens that have `share` of the probability together (arXiv
    1904.09751)."""
    ordered, indices = logits.softmax(1).sort(1, descending=True)
    # A token stays if those before it do not have the share yet; the first always does.
    selected = ordered * (ordered.cumsum(1) - ordered < share)
    return torch.zeros_like(logits).scatter(1, indices, selected / selected.sum(1, keepdim=True))


def _draw(logits: Callable[[Tensor], Tensor], rows: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Draws token ids [N, LONGEST], padded."""
    texts = torch.full((rows, 1), START)
    for length in range(1, LONGEST - 1):
        ended = (texts[:, -1] == END) | (texts[:, -1] == PAD)
        if length > 1 and bool(ended.all()):
            break
        values = logits(texts)
        if length < SHORTEST:
            values[:, END] = -torch.inf
        probabilities = nucleus(values)
        following = [
            torch.tensor([PAD]) if over else torch.multinomial(row, 1, generator=generator)
            for row, over, generator in zip(probabilities, ended.tolist(), generators, strict=True)
        ]
        texts = torch.cat((texts, torch.stack(following)), dim=1)
    return texts


def _text(ids: Tensor) -> str:
    import open_clip

    text: str = open_clip.decode(ids)
    return text.split(ENDS)[0].split(STARTS)[-1].split(".")[0].rstrip()


@dataclass(frozen=True)
class CaptionSettings:
    """Number of captions per image, and the `seed` that they are drawn by."""

    count: int
    seed: int


@dataclass(frozen=True)
class Captioning:
    """A batch of images to caption: those of `rows`, relative to `folder`; `start` is the index of the first. `name`
    and `identity` are those of the captioner, which every worker must match."""

    name: str
    identity: str
    folder: Path
    rows: Sequence[Pair]
    start: int
    settings: CaptionSettings


def caption_pairs(
    pairs: Pairs,
    captioner: Captioner,
    settings: CaptionSettings,
    kept: Path,
    progress: Progress = silent,
    scheduler: str | None = None,
) -> Pairs:
    """Returns the same pairs, each with synthetic captions added after its own.

    Args:
        kept: a file of finished captions. A stopped run resumes from it if captioner, settings and images are the same.
        scheduler: see `scheduling.run_tasks`; a batch is a task, which then computes on one thread.

    Raises:
        InvalidInput: pairs without true captions, or an image that cannot be read.
        UsageError, DependencyMissing, RuntimeFailed: see `run_tasks`.
    """
    if not pairs.captioned:
        raise InvalidInput(f"{pairs.folder} has no true captions, which synthetic ones are added to; give them as text")
    done = _Done(kept, {"captioner": captioner.identity, **vars(settings), "top_p": TOP_P})
    captions: dict[int, list[list[str]]] = {}
    tasks, failures = [], list[Failed]()
    for start in range(0, len(pairs.rows), BATCH):
        rows = pairs.rows[start : start + BATCH]
        texts = done.get(start, _digests(pairs.folder, rows))
        if texts is not None:
            captions[start] = texts
            continue
        batch = Captioning(captioner.name, captioner.identity, pairs.folder.absolute(), rows, start, settings)
        name = f"captions of images {start} to {start + len(rows) - 1}"
        tasks.append(Task(name, _caption, (batch, captioner if scheduler is None else None), captioner.memory))

    def record(_: Task, made: tuple[int, list[str], list[list[str]]] | Failed) -> None:
        if isinstance(made, Failed):
            failures.append(made)
            return
        start, digests, texts = made
        captions[start] = texts
        done.add(start, digests, texts)

    run_tasks(tasks, record, scheduler, progress=progress)
    if failures:
        raise failures[0].error
    drawn = [texts for start in sorted(captions) for texts in captions[start]]
    return Pairs(
        pairs.folder,
        tuple(
            row.model_copy(update={"captions": (*row.captions, *synthetic)})
            for row, synthetic in zip(pairs.rows, drawn, strict=True)
        ),
    )


def _digests(folder: Path, rows: Sequence[Pair]) -> list[str]:
    return [file_sha256(folder / row.image) for row in rows]


def _caption(what: Captioning, captioner: Captioner | None) -> tuple[int, list[str], list[list[str]]]:
    """Captions a batch. Returns the index of its first image, the SHA-256 of its image files, and their captions. They
    depend on the seed and the image's index. A worker process has no `captioner` and loads it by its name.

    Raises:
        InvalidInput: that name loads another captioner, or a picture is missing.
    """
    if captioner is None:
        torch.set_num_threads(1)  # sums of float32 depend on the number of threads
        captioner = _once_loaded(what.name)
    if captioner.identity != what.identity:
        raise InvalidInput(
            f"the captioner {what.name} differs on {socket.gethostname()}; all workers must see the same file"
        )
    digests, images = _digests(what.folder, what.rows), [load_image(what.folder / row.image) for row in what.rows]
    seed = what.settings.seed * 1_000_003 + what.start
    chance = [torch.Generator().manual_seed(seed + index) for index in range(len(images))]
    return what.start, digests, captioner.captions(images, what.settings.count, chance)


_once_loaded = lru_cache(maxsize=1)(load_captioner)


class _Done:
    """Cache of finished captions: one line of settings, then one line per batch. Reading ends at the first unreadable
    line, and all captions from there on are made again."""

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        self.file, self.batches = file, dict[int, Any]()
        head = json.dumps(settings) + "\n"
        try:
            with file.open(encoding="utf-8") as stream:
                if stream.readline() == head:
                    for line in iter(lambda: stream.readline(LINE_BYTES), ""):  # the last one may be half written
                        record = json.loads(line)
                        self.batches[record["start"]] = record
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, head + "".join(json.dumps(record) + "\n" for record in self.batches.values()))

    def get(self, start: int, digests: list[str]) -> list[list[str]] | None:
        record = self.batches.get(start)
        if record is None or record.get("images") != digests:
            return None
        texts: list[list[str]] = record["captions"]
        return texts

    def add(self, start: int, digests: list[str], texts: list[list[str]]) -> None:
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"start": start, "images": digests, "captions": texts}) + "\n")
