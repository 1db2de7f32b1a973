"""Other looks at the same pictures and classes: where one look leaves open what an artifact loses, more can tell."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

__all__ = ["AS_IT_STANDS", "VIEWS", "View"]


@dataclass(frozen=True)
class View:
    """A part of each picture, from `left` and `top` to `right` and `bottom` as shares of its sides, and a prompt.

    `template`: with `{}` for the class, where neither the dataset nor the caller names any; the model's own when None.
    """

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    template: str | None = None

    @property
    def whole(self) -> bool:
        """Whether pictures are as they stand."""
        return (self.left, self.top, self.right, self.bottom) == (0.0, 0.0, 1.0, 1.0)

    def of(self, image: Image.Image) -> Image.Image:
        """The part of a picture that this view shows, to the nearest pixel, one pixel at least."""
        if self.whole:
            return image
        width, height = image.size
        left, top = round(self.left * width), round(self.top * height)
        right, bottom = max(round(self.right * width), left + 1), max(round(self.bottom * height), top + 1)
        return image.crop((left, top, right, bottom))


AS_IT_STANDS = View()
# As training augments: a little shifted, a little nearer.
VIEWS = (
    AS_IT_STANDS,
    View(0.0, 0.0, 0.94, 0.94, "a picture of {}"),
    View(0.06, 0.06, 1.0, 1.0, "{}"),
    View(0.0, 0.06, 0.94, 1.0, "an image of {}"),
    View(0.05, 0.05, 0.95, 0.95, "this is {}"),
)
