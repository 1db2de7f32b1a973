"""docs/demo.svg: what the first commands of the README print in a terminal, run now on nano.

python benchmarks/demo_picture.py
"""

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import ROOT
from rich.console import Console
from rich.text import Text

PICTURE = ROOT / "docs" / "demo.svg"
COLUMNS, LINES = 112, 60
IMAGES = ROOT / "models" / "nano" / "evaluation" / "images"
COMMANDS = (
    "export --target onnx,coreml -o out/",
    f"classify out/nano-coreml-fp16 {' '.join(f'1f{name}.png' for name in ('431', '355', '697'))}"
    " --labels 'cat face,pizza,automobile,rocket,tree'",
)


def main() -> None:
    """Run the commands and write the picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("431", "355", "697"):
            (Path(folder) / f"1f{name}.png").symlink_to(IMAGES / f"1f{name}.png")
        for command in COMMANDS:
            console.print(Text(f"$ mobileclip-deploy {command}", "bold"))
            console.print(Text.from_ansi(in_terminal(f"{sys.executable} -m mobileclip_deploy {command}", folder)))
    svg = console.export_svg(title="mobileclip-deploy")
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")


def in_terminal(command: str, folder: str) -> str:
    """Returns what a command leaves on a terminal of `COLUMNS`: lines that it overwrites as they are at the end."""
    master, slave = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "LINES": str(LINES), "TERM": "xterm-256color"}
    with subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=environment, stdout=slave, stderr=subprocess.DEVNULL
    ) as process:
        os.close(slave)
        text = io.BytesIO()
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the terminal has no writer any more
                break
            text.write(part)
    os.close(master)
    assert process.returncode == 0, text.getvalue().decode()
    return text.getvalue().decode().replace("\r\n", "\n").rstrip()


if __name__ == "__main__":
    main()
