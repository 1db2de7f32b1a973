"""Small datasets of a suite, of plain colours, and an embedder whose answers to them are known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from packed import saved, write_tar
from PIL import Image

from mobileclip_deploy.network.model.scores import Scores
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import Preprocess, TokenizerSpec
from mobileclip_deploy.pictures.embedder import Embedder

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "pink": (255, 0, 255),
    "cyan": (0, 255, 255),
    "white": (255, 255, 255),
}
NAMES = tuple(COLOURS)


def picture(colour: Sequence[int]) -> bytes:
    return saved(lambda stream: Image.new("RGB", (16, 16), tuple(colour)).save(stream, "PNG"))


def shade(colour: int, number: int) -> list[int]:
    """Almost a colour: equal files would be embedded once, and other colours would be equally near."""
    return [abs(part - number % 3 - 3 * place) for place, part in enumerate(COLOURS[NAMES[colour]])]


def write_classification(
    folder: Path, shown: Sequence[int], labels: Sequence[int], groups: Sequence[int] | None = None
) -> None:
    """A dataset of plain pictures: `shown` is the colour of each, `labels` what it is said to be; three a shard."""
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("\n".join(NAMES) + "\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a {c} picture\n")
    count = -(-len(shown) // 3)
    (folder / "test" / "nshards.txt").write_text(str(count))
    for shard in range(count):
        members = []
        for number in range(3 * shard, min(3 * shard + 3, len(shown))):
            parts = {"png": picture(shade(shown[number], number)), "cls": str(labels[number]).encode()}
            if groups is not None:
                group = np.array([groups[number], 1999])
                parts["npy"] = saved(lambda stream, group=group: np.save(stream, group))
            members += [(f"s{number:07d}.{ending}", content) for ending, content in parts.items()]
        write_tar(folder / "test" / f"{shard}.tar", members)


class Eye:
    """Sees the colour of a picture, and thinks of the colour that a text names (black of one that names none)."""

    def __init__(self, variant: str = "mobileclip_s0") -> None:
        self.seen = 0
        self.variant = variant
        self.words = {tuple(encode([f"{name}"])[0])[1]: COLOURS[name] for name in NAMES}

    def images(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self.seen += len(pixels)
        return pixels.mean((2, 3)) - 0.25

    def texts(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        found = [next((self.words[word] for word in row.tolist() if word in self.words), (0, 0, 0)) for row in ids]
        return np.array(found, np.float32) / 255 - 0.25

    def embedder(self) -> Embedder:
        return Embedder(
            name="an eye",
            variant=self.variant,
            engine="eye 1",
            embedding_space="colours",
            images=self.images,
            texts=self.texts,
            artifact=lambda tower: f"eye {tower}",
            preprocess=Preprocess(size=16),
            tokenizer=TokenizerSpec(),
            template="a {}",
            scores=Scores(1.0),
        )
