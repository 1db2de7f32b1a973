"""Uses the installed package as on a user's machine, in a folder with a space and Chinese characters in its name.

python .github/scripts/use_wheel.py FOLDER

Made for Windows, and the same elsewhere: ends with 1 at the first step that is not as it should be.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path

NAME = "my pictures 写真"
QUERIES = {"pizza": "1f355.png", "cat face": "1f431.png"}
PICTURES = Path(__file__).parents[2] / "models" / "nano" / "evaluation" / "images"


class Program:
    """The installed command, run in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, *words: str | Path, code: int = 0) -> str:
        """Runs a command; returns its stdout.

        Raises:
            SystemExit: another exit code, or a traceback.
        """
        command = [sys.executable, "-P", "-m", "mobileclip_deploy", *map(str, words)]
        done = subprocess.run(command, cwd=self._folder, capture_output=True)
        stdout, stderr = done.stdout.decode("utf-8"), done.stderr.decode("utf-8")
        print(*words, done.returncode, flush=True)
        if done.returncode != code or "Traceback" in stderr:
            sys.exit(f"{' '.join(map(str, words))} ended with {done.returncode}, not {code}:\n{stdout}\n{stderr}")
        return stdout


def main() -> None:
    """Runs every step in turn."""
    top = Path(sys.argv[1]).absolute()
    folder, photos = top / NAME, top / NAME / "photos"
    photos.mkdir(parents=True)
    for name in QUERIES.values():
        (photos / name).write_bytes((PICTURES / name).read_bytes())
    run = Program(folder)
    run("variants")
    run("export", "--target", "onnx", "-o", "out")
    run("export", "--target", "onnx", "-o", "out", "--force", "--no-verify")
    run("export", "--target", "onnx", "-o", "out", code=2)
    run("verify", Path("out", "nano-onnx-fp16"))
    run("embed", Path("out", "nano-onnx-fp16"), "photos", "-o", "library.mcdx")
    for query, name in QUERIES.items():
        answer = json.loads(run("search", "library.mcdx", query, "--json"))["answers"][0]
        if Path(answer["matches"][0]["id"]).name != name:
            sys.exit(f"{query}: {answer}")
    check_long_path(folder, run)
    check_locks(folder / "library.mcdx", run)
    result = top / "benchmark.json"
    run("benchmark", Path("out", "nano-onnx-fp16"), "--device", "host", "--quick", "--force", "--json", result)
    left = [path.name for path in folder.iterdir() if ".partial" in path.name]
    if left:
        sys.exit(f"left over: {left}")


def check_long_path(folder: Path, run: Program) -> None:
    """Writes and searches an index whose path is longer than the 260 characters that Windows takes by default."""
    deep = folder.joinpath(*(f"{'long ' * 20}{number}" for number in range(3)), "library.mcdx")
    run("embed", Path("out", "nano-onnx-fp16"), "photos", "-o", deep)
    run("search", deep, "pizza")


def check_locks(path: Path, run: Program) -> None:
    """A second writer is refused, a reader is not; an index that is being read is extended, and compacted after.

    Raises:
        SystemExit: it is otherwise.
    """
    from mobileclip_deploy.search.index import Index
    from mobileclip_deploy.search.writing import IndexWriter

    update = ("embed", Path("out", "nano-onnx-fp16"), "photos", "-o", path.name, "--incremental", "--prune")
    with IndexWriter.open(path):
        run("search", path.name, "pizza")
        refused = threading.Thread(target=lambda: run(*update, code=2))
        refused.start()
        refused.join()
    reader = Index(path)
    (path.parent / "photos" / "1f355.png").unlink()
    run(*update)  # Windows replaces no mapped file: there the row is marked, and its bytes stay
    del reader
    run(*update)
    if len(Index(path)) != 1:
        sys.exit(f"{path} holds {len(Index(path))} rows")


if __name__ == "__main__":
    main()
