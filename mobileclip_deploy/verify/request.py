"""The request of a verification."""

from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files import StrPath
from mobileclip_deploy.parity import Gates


@dataclass(frozen=True)
class VerifyRequest:
    """Arguments of a verification, from the command line or the Python function. `only_files`: see `verify_files`."""

    bundle: Bundle | StrPath
    checkpoint: Path | None = None
    images: Path | None = None
    prompts: Path | None = None
    dataset: Path | None = None
    calibration: Path | None = None
    gates: Gates | None = None
    thorough: bool = True
    place: str | None = None
    fit: Path | None = None
    captions: Path | None = None
    only_files: bool = False
