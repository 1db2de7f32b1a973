"""Bounds of augmentations, and the parameters of one augmentation."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mobileclip_deploy.errors import UsageError, first_problem

PARAMETERS = (
    "left",
    "top",
    "width",
    "height",
    "mirror",
    "angle",
    "shear",
    "brightness",
    "contrast",
    "saturation",
    "hue",
)
"""Columns of an augmentation, float32. The box is in fractions of the image's sides, angles are in radians. Brightness
is added to [0, 1]; contrast and saturation are factors."""


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if not 0 < bounds[0] <= bounds[1]:
        raise ValueError("two numbers above 0, the smaller one first")
    return bounds


Rising = Annotated[tuple[float, float], AfterValidator(_rising)]


class _Asked(type(BaseModel)):  # type: ignore[misc]  # pydantic's own metaclass has no public name
    """Metaclass of a model that raises `UsageError` when called from Python, as public functions do. Reading of files
    has its own error texts."""

    def __call__(cls, *arguments: Any, **fields: Any) -> Any:
        if arguments:
            raise UsageError(f"AugmentationPolicy takes keywords: {', '.join(cls.model_fields)}")
        try:
            return super().__call__(**fields)
        except ValidationError as error:
            raise UsageError(f"AugmentationPolicy: {first_problem(error)}") from None


class AugmentationPolicy(BaseModel, metaclass=_Asked):
    """Bounds of augmentations. Each affine and colour operation is applied with `probability`, at a magnitude that is
    uniform up to its bound. `scale` and `ratio` are the crop's share of the area and its aspect in pixels. Angles,
    of hue too, are in radians."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scale: Rising = (0.5, 1.0)
    ratio: Rising = (3 / 4, 4 / 3)
    mirror: float = Field(default=0.5, ge=0, le=1)
    probability: float = Field(default=0.5, ge=0, le=1)
    angle: float = Field(default=0.25, ge=0, le=3.15)
    shear: float = Field(default=0.15, ge=0, le=1)
    brightness: float = Field(default=0.2, ge=0, le=1)
    contrast: float = Field(default=0.4, ge=0, le=1)
    saturation: float = Field(default=0.5, ge=0, le=1)
    hue: float = Field(default=0.3, ge=0, le=1.6)
