"""Commands in the pages: a block of them runs on nano as it is, or says in a line `Needs: ...` what it needs.

An export is planned here and not carried out, and a verification, a measurement and a training are parsed, with the
files that they name in place: each takes minutes. Their options are those that other tests run.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from command_line import run
from conversions import ROOT
from exports import Exports

from mobileclip_deploy.cli import cli

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SLOW = ("audit", "benchmark", "compare", "evaluate", "export", "reinforce", "report", "verify")
SHELL = ("", "sh", "bash")
WRITTEN = ("-o", "--html", "--static", "--export", "--json")
BUNDLES = (("onnx", "fp32"), ("onnx", "fp16"), ("onnx", "w8"), ("coreml", "fp16"))
"""Bundles that commands run on; those of other targets are run by tests of the targets."""


@dataclass(frozen=True)
class Block:
    """Commands between two fences, and the line before that says what they need."""

    page: str
    lines: tuple[str, ...]
    needs: str | None

    def commands(self) -> Iterator[list[str]]:
        """Words of each command, without comments."""
        text = "\n".join(self.lines).replace("\\\n", " ")
        for line in text.splitlines():
            if words := shlex.split(line, comments=True):
                yield words


@cache
def blocks() -> tuple[Block, ...]:
    """Blocks of commands of all pages; the drawing in Architecture has none."""
    found = []
    for page in PAGES:
        lines = page.read_text(encoding="utf-8").splitlines()
        fences = [index for index, line in enumerate(lines) if line.lstrip().startswith("```")]
        for first, last in zip(fences[::2], fences[1::2], strict=True):
            if lines[first].strip().removeprefix("```") in SHELL and page.name != "ARCHITECTURE.md":
                indent = len(lines[first]) - len(lines[first].lstrip())
                before = "\n".join(lines[:first]).rstrip().rpartition("\n\n")[2].strip()
                needs = " ".join(before.split()) if before.startswith("Needs: ") else None
                found.append(Block(page.name, tuple(line[indent:] for line in lines[first + 1 : last]), needs))
    return tuple(found)


def own(words: list[str]) -> bool:
    return words[0] == "mobileclip-deploy"


def test_a_block_of_commands_runs_here_or_says_what_it_needs() -> None:
    foreign = [
        (block.page, words[0])
        for block in blocks()
        if block.needs is None
        for words in block.commands()
        if not own(words)
    ]
    assert foreign == [], "write a line before the block: Needs: ..."
    marks = [block.needs for block in blocks() if block.needs is not None]
    assert len(marks) > 20
    assert [mark for mark in marks if not re.fullmatch(r"Needs: .*[^ ]\.", mark)] == []
    for page in PAGES:
        paragraphs = page.read_text(encoding="utf-8").split("\n\n")
        after = [paragraphs[index + 1] for index, text in enumerate(paragraphs) if text.startswith("Needs: ")]
        assert [text for text in after if not text.startswith("```")] == [], page.name


def test_options_of_commands_that_run_here_are_run_by_tests() -> None:
    sources = "\n".join(
        path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("*.py")) if path != Path(__file__)
    )
    missing = set()
    for block in blocks():
        for words in block.commands():
            if block.needs is None and own(words):
                for flag in (word for word in words if word.startswith("--")):
                    keyword = flag.removeprefix("--").replace("-", "_")
                    if f'"{flag}"' not in sources and not re.search(rf'\b{keyword}(?:=|": )', sources):
                        missing.add(f"{words[1]} {flag}")
    assert missing == set()


@pytest.fixture
def workspace(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone's folder as the pages leave it: bundles in `out`, and the pictures of nano, fewer of them."""
    held_out, wanted = ROOT / "models/nano/evaluation/images", tmp_path / "models/nano/evaluation/images"
    wanted.mkdir(parents=True)
    for path in [held_out / "1f355.png", *sorted(held_out.glob("1f3*.png"))[:20]]:
        shutil.copy(path, wanted)
    for name in ("weights.safetensors", "calibration", "languages"):
        (tmp_path / "models/nano" / name).symlink_to(ROOT / "models/nano" / name)
    for target, precision in BUNDLES:
        shutil.copytree(exports.unverified(target, precision, "both").path, tmp_path / f"out/nano-{target}-{precision}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def inputs(arguments: list[str]) -> list[str]:
    """Files and folders that a command reads, by the names that the pages give them."""
    named = [word for before, word in zip(["", *arguments], arguments, strict=False) if before not in WRITTEN]
    return [word for word in named if re.search(r"/|\.mcdx$|\.json$", word) and "*" not in word and "[" not in word]


class Planned(Exception):
    """An export has been planned, and would begin."""


def plan(arguments: list[str]) -> None:
    """Refuses what `export` refuses before it reads a checkpoint: targets, precisions, options, folders."""

    def planned(choices: Any, source: Any) -> None:
        raise Planned

    with mock.patch("mobileclip_deploy.export.plan.plan_export", planned), pytest.raises(Planned):
        cli.commands["export"].main(arguments, standalone_mode=False)


@pytest.mark.slow
@pytest.mark.usefixtures("without_phones")
def test_the_commands_of_the_pages_run_on_nano(workspace: Path) -> None:
    done: set[str] = set()
    ran: list[str] = []
    for block in blocks():
        for words in block.commands():
            if block.needs is not None or " ".join(words) in done:
                continue
            done.add(" ".join(words))
            name, arguments = words[1], words[2:]
            output = None
            if ">" in arguments:
                *arguments, _, output = arguments
            if name == "export":
                plan(arguments)
                continue
            if not all(Path(word).exists() for word in inputs(arguments)):
                continue  # an export that is planned here makes them
            if name in SLOW:
                cli.commands[name].make_context(name, list(arguments)).close()  # refuses what the command refuses
                continue
            outcome = run(name, *arguments)
            assert outcome.code == 0, (block.page, words, outcome.stderr)
            ran.append(name)
            if output is not None:
                Path(output).write_text(outcome.stdout, encoding="utf-8")
    assert len(ran) > 15, ran
    assert {"classify", "demo", "embed", "inspect", "lint", "search"} <= set(ran)
    assert (workspace / "library.mcdx").is_file()
