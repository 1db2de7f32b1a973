"""Sources of a dataset's images (files, byte ranges of archives), and the views of a picture that are embedded."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mobileclip_deploy.base.files.tars import Extent, read_extent
from mobileclip_deploy.errors import REASON, reraising
from mobileclip_deploy.network.model.image_files import IMAGE_BYTES, image_bytes


@dataclass(frozen=True)
class ArchiveImage:
    """A member of an uncompressed tar archive."""

    archive: Path
    name: str
    extent: Extent

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


@dataclass(frozen=True)
class Content:
    """Bytes of a file that is already read, and its name in error texts."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


ImageSource = Path | ArchiveImage | Content


def read_image(source: ImageSource) -> bytes:
    """Returns the bytes of an image file.

    Raises:
        InvalidInput: they cannot be read.
    """
    if isinstance(source, Content):
        return source.content
    if isinstance(source, Path):
        return image_bytes(source)
    with reraising(f"{source}: cannot be read ({REASON})", OSError):
        return read_extent(source.archive, source.extent, IMAGE_BYTES)


@dataclass(frozen=True)
class ImageView:
    """A crop of each picture and a prompt. `left`, `top`, `right` and `bottom` are shares of the picture's sides.

    `template`: prompt with `{}` for the class, used if neither the dataset nor the caller names any; the model's own if
    None.
    """

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    template: str | None = None

    @property
    def whole(self) -> bool:
        """True if the view is the unchanged picture."""
        return (self.left, self.top, self.right, self.bottom) == (0.0, 0.0, 1.0, 1.0)

    def of(self, image: Image.Image) -> Image.Image:
        """Returns the part of a picture that this view shows, to the nearest pixel, at least one pixel."""
        if self.whole:
            return image
        width, height = image.size
        left, top = round(self.left * width), round(self.top * height)
        right, bottom = max(round(self.right * width), left + 1), max(round(self.bottom * height), top + 1)
        return image.crop((left, top, right, bottom))


AS_IT_STANDS = ImageView()
# If one view leaves an artifact's loss undecided, more views may decide it: shifted or enlarged a little, as training
# augments.
VIEWS = (
    AS_IT_STANDS,
    ImageView(0.0, 0.0, 0.94, 0.94, "a picture of {}"),
    ImageView(0.06, 0.06, 1.0, 1.0, "{}"),
    ImageView(0.0, 0.06, 0.94, 1.0, "an image of {}"),
    ImageView(0.05, 0.05, 0.95, 0.95, "this is {}"),
)
