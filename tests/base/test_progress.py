"""Progress in a log: a line when a stage begins, then one every so many seconds."""

import io
import threading

import pytest
from rich.console import Console

from mobileclip_deploy.base.progress import Lines, about, rate
from mobileclip_deploy.cli.output import with_bar


class Clock:
    """Seconds as a test likes them."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_stage_is_told_at_once_and_its_count_every_so_many_seconds() -> None:
    clock, written = Clock(), list[str]()
    lines = Lines(written.append, every=15, clock=clock)
    told = about("nano", lines)
    told("converting")
    for count in range(0, 320, 64):
        told(f"image {count} of 1,911")
        clock.now += 6
    told("class prompts")
    told("class prompts")
    assert written == [
        "nano: converting",
        "nano: image 0 of 1,911",
        "nano: image 192 of 1,911 (18 s)",
        "nano: class prompts",
    ]


def test_what_is_done_in_a_moment_is_not_told_where_moments_do_not_count() -> None:
    clock, written = Clock(), list[str]()
    lines = Lines(written.append, every=15, clock=clock, patience=2)
    lines("reading")
    clock.now += 1
    lines("writing")
    clock.now += 1.5
    lines.remind()
    assert written == []
    clock.now += 0.5
    lines.remind()
    clock.now += 15
    lines.remind()
    assert written == ["writing", "writing (17 s)"]


def test_a_long_stage_is_told_again_without_being_asked() -> None:
    reminded = threading.Event()
    with Lines(lambda text: reminded.set() if text.endswith(" s)") else None, every=0.01).reminding() as lines:
        lines("converting")
        assert reminded.wait(60)
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_nothing_is_told_before_there_is_something_to_tell() -> None:
    clock, written = Clock(), list[str]()
    lines = Lines(written.append, clock=clock)
    clock.now += 60
    lines.remind()
    assert written == []


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("fetching onnxruntime 1.32.0 for the phone: 6.0 of 24.0 MB", 4),
        ("nano: image 1,911 of 1,911", 16),
        ("writing [/x] of the bundle", 0),  # no markup, whatever a path holds
    ],
)
def test_on_a_terminal_a_count_is_a_bar(text: str, full: int) -> None:
    shown = io.StringIO()
    Console(file=shown, width=80, no_color=True, force_terminal=True, _environ={"TERM": "xterm"}).print(with_bar(text))
    assert text in shown.getvalue()
    assert shown.getvalue().count("━") == full


@pytest.mark.parametrize(("number", "shown"), [(0.1234, "0.123"), (98.24, "98.2"), (1058.3, "1,060")])
def test_a_rate_has_three_digits_and_no_exponent(number: float, shown: str) -> None:
    assert rate(number) == shown
