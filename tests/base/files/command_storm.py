"""Kills and races of real commands.

    python tests/base/files/writer_storm.py commands FOLDER KILLS RACES [SEED] [NAME,...]

Each command runs once undisturbed. Then it is killed at random moments and started again, and the second run's output
has to have the same bytes. Of two that race for one new output exactly one ends with 0.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from hub_server import TOKEN, HubServer

MAIN = [sys.executable, "-P", "-m", "mobileclip_deploy"]
NANO = Path(__file__).parents[3] / "models" / "nano" / "evaluation"
PICTURES = 600
NAMES = ["embed.mcdx", "embed.jsonl", "embed.npy", "export", "train", "publish", "upload", "sweep"]
STEPS = 12
RECIPE = f"version: 1\nvariant: nano\ndata: DATA\nsteps: {STEPS}\nbatch: 8\nlearning_rate: 0.001\ndistillation: 0\n"
REFUSED = re.compile(r"another (`[a-z]+`|process) writes |exists; ")
RESUMED = re.compile(r"resumed at step (\d+)")
COMPUTED = re.compile(r'"computed": (\d+)')
CHANGING = ("manifest.json", "parity.json", "MODEL_CARD.md", "sweep.json", "checkpoint.pt")
"""Files that contain the time, or whose archive does."""


def arguments(name: str, folder: Path, output: Path) -> list[str]:
    """The words of a command, whose output is in a folder of its own."""
    if name.startswith("embed"):
        bundle, pictures = folder / "nano-onnx-fp32", folder / "pictures"
        return ["embed", str(bundle), str(pictures), "-o", str(output / f"out.{name.partition('.')[2]}"), "--json"]
    if name == "export":
        return ["export", "--target", "onnx", "--precision", "fp32", "--no-verify", "-o", str(output)]
    if name == "publish":
        return ["publish", str(folder / "verified" / "nano-onnx-fp32"), "--to", str(output / "published"), "--write"]
    if name == "sweep":
        return ["sweep", str(folder / "sweep.toml"), "-o", str(output)]
    return ["train", str(folder / "recipe.yaml"), "-o", str(output)]


def prepare(folder: Path) -> None:
    """Writes what the commands need, once."""
    if (folder / "recipe.yaml").exists():
        return
    shutil.copytree(NANO, folder / "data")
    (folder / "pictures").mkdir(parents=True)
    for picture in sorted((NANO / "images").iterdir())[:PICTURES]:
        shutil.copy2(picture, folder / "pictures")
    subprocess.run([*MAIN, *arguments("export", folder, folder), "--quiet"], check=True)
    subprocess.run(
        [*MAIN, "export", "--target", "onnx", "--precision", "fp32", "-o", str(folder / "verified"), "--quiet"],
        check=True,
    )
    (folder / "sweep.toml").write_text('version = 1\ntargets = ["onnx"]\nprecisions = ["fp32", "fp16"]\n')
    (folder / "recipe.yaml").write_text(RECIPE.replace("DATA", str(folder / "data")))


def contents(output: Path) -> dict[str, bytes | None]:
    """The bytes of every file; None for files that contain the time."""
    files = (path for path in output.rglob("*") if path.is_file())
    return {
        str(path.relative_to(output)): None if path.name in CHANGING else path.read_bytes() for path in sorted(files)
    }


def start(
    words: list[str], place: Path | None = None, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    pipe, variables = subprocess.PIPE, os.environ | (environment or {})
    return subprocess.Popen([*MAIN, *words], stdout=pipe, stderr=pipe, text=True, cwd=place, env=variables)


def done(said: str) -> int:
    """What a run did itself: embeddings, or steps of a training."""
    if (computed := COMPUTED.search(said)) is not None:
        return int(computed[1])
    return STEPS - int(step[1]) if (step := RESUMED.search(said)) is not None else STEPS


def kill(name: str, folder: Path, count: int, seed: int) -> Iterator[str]:
    """Kills a command `count` times; yields what each left, and what the next run took from it."""
    chance, output = random.Random(f"{name}{seed}"), folder / f"storm-{name}"
    shutil.rmtree(output, ignore_errors=True)
    before = time.monotonic()
    undisturbed = start(arguments(name, folder, output))
    first = "\n".join(undisturbed.communicate())
    assert undisturbed.returncode == 0, first
    lasted, expected, all_of_it = time.monotonic() - before, contents(output), done(first)
    number = 0
    while number < count:
        shutil.rmtree(output)
        # Importing is a third of a run; nothing is written in that time.
        before, after = time.monotonic(), chance.uniform(0.3, 1.0) * lasted
        process = start(arguments(name, folder, output))
        try:
            process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        if process.returncode == 0:  # the machine is less busy than before
            assert contents(output) == expected, f"{name}, undisturbed: other bytes"
            lasted = min(lasted, time.monotonic() - before)
            continue
        assert process.returncode == -signal.SIGKILL, f"{name}: exit code {process.returncode}"
        number += 1
        yield "killed"
        left = {path.name for path in output.iterdir()} if output.exists() else set()
        yield "left nothing" if not left else "left work" if any(".partial" in each for each in left) else "left whole"
        again = start(arguments(name, folder, output))
        said = "\n".join(again.communicate())
        whole = again.returncode == 2 and "exists; " in said  # killed after the last rename
        assert again.returncode == 0 or whole, f"{name}, kill {number} after {after:.1f} s: {said}"
        assert contents(output) == expected, f"{name}, kill {number} after {after:.1f} s: other bytes"
        if not whole and done(said) < all_of_it:
            yield "went on with what was done"
        if whole:
            yield "killed after it was whole"


def kill_uploads(folder: Path, count: int, seed: int) -> Iterator[str]:
    """Kills `publish` to a hub on loopback; a second run has to complete what the first left."""
    chance, bundle = random.Random(seed), folder / "verified" / "nano-onnx-fp32"
    words = ["publish", str(bundle), "--to", "hf:owner/nano", "--write"]
    expected: dict[str, bytes] | None = None
    lasted = 0.0
    for number in range(count + 1):
        server, place = HubServer(), folder / f"upload-{number}"
        place.mkdir()
        tokens = {
            "HF_ENDPOINT": server.url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(place / "hub"),
        }
        began = time.monotonic()
        first = start(words, place, tokens)
        after = chance.uniform(0.3, 1.0) * lasted if number else None
        try:
            first.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            first.kill()
            first.communicate()
        commits = server.commits.get("owner/nano", [])
        if number == 0 or first.returncode == 0:
            assert first.returncode == 0
            lasted, expected = time.monotonic() - began, commits[-1]
        else:
            locked = bool(list(place.glob("*.lock.json")))
            yield "left all" if locked else ("left no repository", "left an empty one", "left no lock")[len(commits)]
            assert len(commits) < 2 or commits[-1] == expected, f"kill {number}: {sorted(commits[-1])}"
            assert len(commits) == 2 or not locked, f"kill {number}: a lock of no commit"
            if locked:
                server.close()
                continue
            again = start(words, place, tokens)
            said = "\n".join(again.communicate())
            assert again.returncode == 0, f"kill {number} after {after} s: {said}"
            assert server.commits["owner/nano"][-1] == expected, f"kill {number}: other bytes"
            assert len(list(place.glob("*.lock.json"))) == 1
        server.close()


def race(name: str, folder: Path, count: int) -> Iterator[str]:
    """Starts two of a command at one new output; yields how the one that lost was refused."""
    output = folder / f"storm-{name}"
    shutil.rmtree(output, ignore_errors=True)
    words = arguments(name, folder, output)
    assert start(words).communicate()
    assert output.exists()
    expected = contents(output)
    for number in range(count):
        shutil.rmtree(output)
        both = [start(words), start(words)]
        said = [process.communicate()[1] for process in both]
        codes = [process.returncode for process in both]
        assert sorted(codes) == [0, 2], f"{name}, race {number}: {codes} {said}"
        (refusal,) = [line for line, code in zip(said, codes, strict=True) if code]
        assert REFUSED.search(refusal), refusal
        assert contents(output) == expected, f"{name}, race {number}: other bytes"
        yield "busy" if "another" in refusal else "exists"


def storm(folder: Path, kills: int, races: int, seed: int, names: list[str]) -> None:
    prepare(folder)
    if "upload" in names:
        print(f"upload: kills {dict(Counter(kill_uploads(folder, kills, seed)))}", flush=True)
    for name in (name for name in names if name != "upload"):
        begun = time.monotonic()
        killed, raced = Counter[str](), Counter[str]()
        for counter, events in (
            (killed, kill(name, folder, kills, seed) if kills else ()),
            (raced, race(name, folder, races) if races else ()),
        ):
            for event in events:
                counter[event] += 1
                print(f"{name}: {event}", file=sys.stderr, flush=True)
        print(f"{name}: kills {dict(killed)}, races {dict(raced)}, {time.monotonic() - begun:.0f} s", flush=True)
