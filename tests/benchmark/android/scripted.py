"""Runners that are shell scripts: what the harness and the driver do when one goes wrong, without a runtime."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["GOOD", "answering", "scripted_runners"]

VERSION = '[ "$1" = --version ] && echo \'{"runtime":"onnxruntime","version":"9.9"}\' && exit\n'
RIGHT = '{"inputs":2,"cosine":1.0,"relative":1e-7,"passed":true}'


def answering(golden: str) -> str:
    """A script that finishes a round with an outcome of the golden inputs. $1 is the job's folder, $2 the cell, $3 the
    round."""
    return (
        'printf \'{"run_id":"%s","cell":"%s","round":%s,"status":"done","samples_ns":[1000,2000,3000],"cpu_ns":6000,'
        f'"golden":{golden}}}\\n\' 20261124T180000Z-android-0011 "$2" "$3"\n'
    )


GOOD = answering(RIGHT)


def scripted_runners(built: Path, folder: Path, script: str = GOOD) -> Path:
    """The real plan runner, and an ONNX Runtime runner that does what `script` says; returns their folder."""
    folder.mkdir()
    shutil.copy(built / "bin/mobileclip-bench", folder)
    (folder / "mobileclip-bench-onnxruntime").write_text("#!/bin/sh\n" + VERSION + script)
    (folder / "mobileclip-bench-onnxruntime").chmod(0o755)
    (folder / "libonnxruntime.so").write_text("none is needed")
    return folder
