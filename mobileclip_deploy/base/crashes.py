"""Reports of crashes: an unexpected exception becomes one line, and a file for the developers."""

import contextlib
import os
import platform
import sys
import tempfile
import traceback
from importlib import metadata
from pathlib import Path

from mobileclip_deploy.base.files.staging import system_temporary
from mobileclip_deploy.errors import InternalError, MobileClipDeployError, missing_extra

PREFIX = "mobileclip-deploy-crash-"


def crashed(error: Exception) -> MobileClipDeployError:
    """Writes a report that only this user can read, and returns the error that names it. If an extra brings what was
    missing, returns that error, without a report."""
    if isinstance(error, ModuleNotFoundError) and (missing := missing_extra(error)) is not None:
        return missing
    summary = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(": ")
    report = _written(error)
    advice = "; report it to the project" if report is None else f"; report it to the project, with the file {report}"
    return InternalError(f"internal error, not a verdict on your files ({summary}){advice}")


def _written(error: Exception) -> Path | None:
    """Writes the report, and returns its path. None if it cannot be written."""
    words = " ".join(map(ascii, sys.argv))
    head = f"mobileclip-deploy {metadata.version('mobileclip-deploy')}, Python {sys.version}, {platform.platform()}"
    text = "\n".join([head, words, "", *traceback.format_exception(error)])
    with contextlib.suppress(OSError):
        # Mode 0600, under a name that did not exist before.
        descriptor, name = tempfile.mkstemp(prefix=PREFIX, suffix=".txt", dir=system_temporary())
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
        except OSError:
            Path(name).unlink()
            return None
        return Path(name)
    return None
