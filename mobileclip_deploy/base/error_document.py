"""An error as documents print it."""

from __future__ import annotations

from pydantic import BaseModel

from mobileclip_deploy.errors import MobileClipDeployError


class RowError(BaseModel, frozen=True):
    """Why a cell has no bundle, or its bundle no latency: as `MobileClipDeployError.as_dict`."""

    kind: str
    message: str
    remedy: str | None
    exit_code: int

    @classmethod
    def of(cls, error: MobileClipDeployError) -> RowError:
        return cls.model_validate(error.as_dict())
