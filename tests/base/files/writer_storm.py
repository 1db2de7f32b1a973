"""Kills and races of writers at one output: from the checkout

    python tests/base/files/writer_storm.py KILLS RACES [SEED]

Each writer keeps work next to the output, stages a file or a folder in small steps, and publishes it, as `embed` and
`export` do. A killed one leaves the output absent or whole, and its work to the next. Of racing ones at a new output
exactly one ends well.
"""

import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

PARTS = 40
WRITER = """
import sys, time
from pathlib import Path
from mobileclip_deploy.base.files import replacing
from mobileclip_deploy.base.files.staging import remove
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.errors import MobileClipDeployError
output, kind, who, go, force = Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]), sys.argv[5] == "force"
print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
try:
    with sole_writer(output, "embed", force=force):
        kept = output.with_name(f".{output.name}.partial")
        kept.mkdir(exist_ok=True)
        (kept / "work").open("a").write(f"{who}\\n")
        with replacing(output) as partial:
            for part in range(PARTS):
                if kind == "folder":
                    partial.mkdir(exist_ok=True)
                    (partial / str(part)).write_text(who)
                else:
                    partial.open("a").write(f"{who}\\n")
                time.sleep(0.001)
        remove(kept)
except MobileClipDeployError as error:
    print(error)
    sys.exit(2)
""".replace("PARTS", str(PARTS))


class Writer:
    """A process that writes an output as soon as `go` is there."""

    def __init__(self, output: Path, kind: str, who: str, go: Path, force: bool) -> None:
        words = [sys.executable, "-c", WRITER, str(output), kind, who, str(go), "force" if force else "new"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def ended(self) -> tuple[int, str]:
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said


def whole(output: Path) -> str | None:
    """Who wrote the output, all of it; None where it is absent."""
    if not output.exists():
        return None
    parts = [file.read_text() for file in output.iterdir()] if output.is_dir() else output.read_text().split()
    assert len(parts) == PARTS, f"{len(parts)} of {PARTS} parts"
    (who,) = set(parts)
    return who


def kills(count: int, seed: int) -> Counter[str]:
    """Kills writers at random moments; what the output was afterwards, by name."""
    chance, found = random.Random(seed), Counter[str]()
    for number in range(count):
        with tempfile.TemporaryDirectory() as name:
            folder, kind, there = Path(name), chance.choice(("file", "folder")), chance.random() < 0.5
            output, go = folder / "out" / "result", folder / "go"
            if there:
                go.touch()
                assert Writer(output, kind, "before", go, True).ended()[0] == 0
                go.unlink()
            writer = Writer(output, kind, "killed", go, True)
            go.touch()
            time.sleep(chance.uniform(0, 0.2))
            writer.process.kill()
            writer.ended()
            who, kept = whole_or_aside(output), output.with_name(".result.partial")
            assert who in (("before" if there else None), "killed"), f"kill {number}: {who}"
            found["new" if who == "killed" else "as before"] += 1
            found["work kept"] += kept.exists()
            code, said = Writer(output, kind, "next", go, True).ended()
            assert (code, whole(output)) == (0, "next"), f"kill {number}: {said}"
            left = sorted(path.name for path in output.parent.iterdir())
            assert left == ["result"], f"kill {number}: {left}"
    return found


def whole_or_aside(output: Path) -> str | None:
    """As `whole`; of a folder that a killed writer had set aside, who wrote that: the next run restores it."""
    if output.exists() or not output.parent.exists():
        return whole(output)
    return next((whole(path) for path in output.parent.glob(".result.replaced-*")), None)


def races(count: int, seed: int, writers: int = 4) -> Counter[str]:
    """Starts writers at one new output at once; how the others were refused."""
    chance, found = random.Random(seed), Counter[str]()
    for number in range(count):
        with tempfile.TemporaryDirectory() as name:
            folder, kind = Path(name), chance.choice(("file", "folder"))
            output, go = folder / "out" / "result", folder / "go"
            racing = {f"w{k}": Writer(output, kind, f"w{k}", go, False) for k in range(writers)}
            go.touch()
            ended = {who: writer.ended() for who, writer in racing.items()}
            won = [who for who, (code, _) in ended.items() if code == 0]
            assert won == [whole(output)], f"race {number}: {ended}"
            for code, said in ended.values():
                if code:
                    assert re.match("another (`embed`|process) writes ", said) or "exists; replace it" in said, said
                    found["busy" if "another" in said else "exists"] += 1
            left = sorted(path.name for path in output.parent.iterdir())
            assert left == ["result"], f"race {number}: {left}"
    return found


if __name__ == "__main__":
    if sys.argv[1] == "commands":
        from command_storm import NAMES, storm

        folder, *counts = sys.argv[2:]
        numbers = [int(word) for word in counts[:3]]
        storm(Path(folder), *numbers, names=counts[3].split(",") if len(counts) > 3 else NAMES)
        sys.exit()
    asked = [int(word) for word in sys.argv[1:]]
    seed = asked[2] if len(asked) > 2 else 0
    print("kills:", dict(kills(asked[0], seed)))
    print("races:", dict(races(asked[1], seed)))
