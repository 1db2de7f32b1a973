"""Names of strangers reach a terminal escaped: they cannot move its cursor, hide words or forge a line."""

import ast
import json
import logging
import os
import sys
import warnings
from pathlib import Path

import click
import pytest
from command_line import refusal, run, spawn
from exports import Exports
from json_files import edited_json

import mobileclip_deploy as mcd
from mobileclip_deploy.base.escaping import shown
from mobileclip_deploy.cli import output, terminal

# ESC, CSI of C1, DEL, NUL, ends of lines, an override, an isolate, marks, an invisible one, tags, a lone surrogate.
HARM = "\x1b[2J\x9b1m\x7f\0\r\n\t\u2028\x85\u202e\u2066\u200e\u061c\u200b\ufeff\U000e0041\ud800"
HONEST = "Katze 猫\u3000قطة می\u200cخواهم 🏳️\u200d🌈 e\u0301 1\u00a0000 \\n"


def harmful(text: str) -> list[str]:
    return [one for one in HARM if not one.isprintable() and one in text.replace("\n", "")]


def test_what_does_not_show_itself_is_escaped() -> None:
    assert shown(HARM) == (r"\x1b[2J\x9b1m\x7f\x00\r\n\t\u2028\x85\u202e\u2066\u200e\u061c\u200b\ufeff\U000e0041\ud800")
    assert shown(HONEST) == HONEST
    assert shown(os.fsdecode(b"caf\xe9.png")) == r"caf\xe9.png"


def test_a_terminal_s_lines_end_between_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    legend = (
        "deviation: relative, of embeddings from the checkpoint's, worst over real images and prompts; /a/path-of/one"
    )
    terminal.say(legend)
    assert capsys.readouterr().out == f"{legend}\n"  # a file's lines stay whole
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    terminal.say(legend)
    terminal.say()
    lines = capsys.readouterr().out.splitlines()
    assert (" ".join(lines[:-1]), lines[-1]) == (legend, "")
    assert max(map(len, lines)) <= 40
    assert "/a/path-of/one" in lines[-2]
    output.print_table(legend, ["a"], [["1"]])
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    assert " ".join(lines[:-4]) == legend
    assert max(map(len, lines)) <= 40


def test_json_means_the_same_and_holds_none_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"name": HARM, "honest": HONEST})
    text = capsys.readouterr().out
    assert json.loads(text) == {"schema_version": 1, "name": HARM, "honest": HONEST}
    assert harmful(text) == []
    assert HONEST.replace("\\", "\\\\") in text


def test_tables_notes_progress_logs_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(HARM, [">a", "b"], [[HARM, "passed"]])
    output.note(HARM)
    with output.progress() as update:
        update(HARM)
    terminal.guard_logging()
    record = logging.LogRecord("a", logging.WARNING, "", 1, "%s", (HARM,), None)
    assert logging.lastResort.format(record) == shown(HARM)
    assert harmful(warnings.formatwarning(HARM, UserWarning, "a.py", 1, "")) == []
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 5  # title, head, line, row and a blank one
    assert printed.err == f"{shown(HARM)}\n" * 2
    assert harmful(printed.out + printed.err) == []


def test_reading_a_dataset_is_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MOMENT", 0.0)
    for path, printed in ((Path("table.csv"), "reading table.csv\n"), (None, "")):
        with output.reading(path):
            assert capsys.readouterr().err == printed


def test_an_error_stays_one_line(tmp_path: Path) -> None:
    name = HARM.replace("\0", "").replace("\ud800", "\udcff")
    line = refusal(run("inspect", tmp_path / name))
    assert harmful(line) == []
    assert r"\x1b[2J" in line
    assert spawn("inspect", tmp_path / name).stderr.count("\n") == 1


def test_a_bundle_of_a_stranger(tmp_path: Path, exports: Exports) -> None:
    bundle = exports.copy("onnx", "fp16", tmp_path)
    bundle = bundle.rename(tmp_path / "a\x1b[31m\u202eb")
    with edited_json(bundle / "manifest.json") as manifest:
        manifest["options"] = {"a\x1b]0;title\x07": "\u2066\x9b"}
        manifest["checkpoint"]["file"] = "x\x1b[2J\nerror: forged"
    for words in ("inspect", bundle), ("inspect", bundle, "--json"), ("lint", bundle):
        outcome = run(*words)
        assert harmful(outcome.stdout + outcome.stderr) == []
        assert "\nerror: forged" not in outcome.stdout + outcome.stderr


def test_no_other_file_prints() -> None:
    package = Path(mcd.__file__).parent
    calls = {
        path.name
        for path in (*package.glob("cli/*.py"), *package.glob("*/commands/*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("click.echo", "click.secho", "print")
    }
    assert calls == {"output.py", "terminal.py"}
