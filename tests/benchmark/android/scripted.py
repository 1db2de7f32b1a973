"""Runners that are shell scripts: what the harness and the driver do when one goes wrong, without a runtime."""

import re
import shutil
from pathlib import Path

from benchmark.android import tiny
from programs import output, script

VERSION = '[ "$1" = --version ] && echo \'{"runtime":"onnxruntime","version":"9.9"}\' && exit\n'


def answering(answers: bytes, golden: str = "null", samples: str = "1000,2000,3000") -> str:
    """A script that finishes a round with answers, in base64, and with what a phone thinks of them. $1 is the job's
    folder, $2 the cell, $3 the round."""
    told = f'"{answers.decode()}"' if answers else "null"
    return (
        f'printf \'{{"run_id":"%s","cell":"%s","round":%s,"status":"done","samples_ns":[{samples}],"cpu_ns":6000,'
        f'"answers":{told},"golden":{golden}}}\\n\' 20261124T180000Z-android-0011 "$2" "$3"\n'
    )


GOOD = answering(tiny.right())


def scripted_runners(built: Path, folder: Path, does: str = GOOD) -> Path:
    """The real plan runner, and an ONNX Runtime runner that does what `does` says; returns their folder."""
    folder.mkdir()
    _without_rpath(built / "bin/mobileclip-bench", folder)
    script(folder / "mobileclip-bench-onnxruntime", VERSION + does)
    (folder / "libonnxruntime.so").write_text("none is needed")
    return folder


def _without_rpath(program: Path, folder: Path) -> None:
    """A program as the NDK links it: it needs a library that lies beside it, and only LD_LIBRARY_PATH says where.

    Started from an empty environment it ends with an error of the system's loader, on a phone and here.
    """
    (library,) = re.findall(r"libstdc\+\+\.so\.6 => (\S+)", output("ldd", str(program)))
    shutil.copy(library, folder / "libstdc++_s.so")
    changed = program.read_bytes().replace(b"libstdc++.so.6\0", b"libstdc++_s.so\0").replace(b"$ORIGIN\0", b"/absent\0")
    (folder / program.name).write_bytes(changed)
    (folder / program.name).chmod(0o755)
