"""An error as printed in documents."""

from __future__ import annotations

from pydantic import BaseModel

from mobileclip_deploy.base.files.names import Name, Prose
from mobileclip_deploy.errors import MobileClipDeployError


class RowError(BaseModel, frozen=True):
    """Reason why a cell has no bundle, or its bundle no latency: as `MobileClipDeployError.as_dict`."""

    kind: Name
    message: Prose
    remedy: Prose | None
    exit_code: int

    @classmethod
    def of(cls, error: MobileClipDeployError) -> RowError:
        return cls.model_validate(error.as_dict())
