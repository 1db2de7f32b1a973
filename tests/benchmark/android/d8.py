"""An SDK's d8 in a test: it takes the options that build.py gives, and refuses what D8 refuses of them.

What it writes is a DEX file of Debian's smali with the names of the classes that it was given, and none of their code:
no translator of Java 17's classes, ONNX Runtime's, is in Debian, on PyPI or on npm.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

OPTIONS = ("--lib", "--min-api", "--output")
NEWEST = 61  # Java 17


def main(words: list[str]) -> None:
    given: dict[str, str] = {}
    inputs: list[Path] = []
    while words:
        word = words.pop(0)
        if word in OPTIONS:
            given[word] = words.pop(0)
        elif word.startswith("--") and word != "--release":
            raise SystemExit(f"Unknown option: {word}")
        elif word != "--release":
            inputs.append(Path(word))
    if not Path(given["--output"]).is_dir():
        raise SystemExit("Invalid output: Output must be a .zip or .jar archive or an existing directory.")
    int(given["--min-api"])
    zipfile.ZipFile(given["--lib"]).getinfo("android/app/Activity.class")
    with tempfile.TemporaryDirectory() as place:
        for at, (name, raw) in enumerate(classes(inputs)):
            if raw[:4] != b"\xca\xfe\xba\xbe" or int.from_bytes(raw[6:8], "big") > NEWEST:
                raise SystemExit(f"Unsupported class file: {name}")
            text = f".class public L{name};\n.super Ljava/lang/Object;\n"
            (Path(place) / f"{at}.smali").write_text(text)
        dex = Path(given["--output"]) / "classes.dex"
        subprocess.run(["smali", "assemble", place, "--output", dex, "--api", given["--min-api"]], check=True)


def classes(inputs: list[Path]) -> list[tuple[str, bytes]]:
    """Names and bytes of the classes in class files and jars."""
    found = []
    for path in inputs:
        if path.suffix == ".class":
            raw = path.read_bytes()
            found.append((path.as_posix().split("/classes/", 1)[1].removesuffix(".class"), raw))
        elif path.suffix == ".jar":
            with zipfile.ZipFile(path) as jar:
                names = [name for name in jar.namelist() if name.endswith(".class") and "META-INF" not in name]
                found += [(name.removesuffix(".class"), jar.read(name)) for name in names]
        else:
            raise SystemExit(f"Unsupported source file type: {path}")
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
