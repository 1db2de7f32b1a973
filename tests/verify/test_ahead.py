"""A slow runtime is asked beside what is done meanwhile: the same answers, and none of a bundle that is given up."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import GateFailed, RuntimeFailed
from mobileclip_deploy.export import steps
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.values import Pace
from mobileclip_deploy.verify import subject
from mobileclip_deploy.verify.instruments.pace import PrefetchedAnswers

LONG = 60  # seconds, after which a test gives up waiting for another thread
INPUTS = np.arange(12, dtype=np.float32).reshape(6, 2)


@dataclass
class Doubling:
    """A runner that tells which inputs it was asked, and does something before it answers."""

    before: Callable[[], object] = lambda: None
    engine: str = "doubling"
    asked: list[float] = field(default_factory=list)

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        self.asked.append(float(inputs[0, 0]))
        self.before()
        return 2 * inputs.astype(np.float32)


def test_each_input_is_asked_once_and_answers_are_in_their_order() -> None:
    image, text = Doubling(), Doubling()
    ahead = PrefetchedAnswers({"image": (image, INPUTS), "text": (text, INPUTS[:3])})
    for tower, inputs in (("text", INPUTS[:3]), ("image", INPUTS)):
        found = ahead.answers(tower)  # type: ignore[arg-type]
        assert found is not None
        np.testing.assert_array_equal(found, 2 * inputs)
    assert sorted(image.asked) == [0, 2, 4, 6, 8, 10]
    assert sorted(text.asked) == [0, 2, 4]
    assert ahead.answers("text") is None


def test_who_waits_for_answers_helps() -> None:
    both = threading.Barrier(2, timeout=LONG)  # is passed by two threads at once alone
    found = PrefetchedAnswers({"image": (Doubling(both.wait), INPUTS)}).answers("image")
    assert found is not None
    np.testing.assert_array_equal(found, 2 * INPUTS)


def test_what_a_runner_raises_is_raised_where_its_answers_are_asked_for() -> None:
    def refuse() -> None:
        raise RuntimeFailed("no such operation")

    ahead = PrefetchedAnswers({"image": (Doubling(refuse), INPUTS), "text": (Doubling(), INPUTS)})
    assert ahead.answers("text") is not None
    with pytest.raises(RuntimeFailed, match="no such operation"):
        ahead.answers("image")


def test_nothing_is_asked_or_computed_any_more_once_it_is_stopped() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert go_on.wait(LONG)

    runner = Doubling(wait)
    ahead = PrefetchedAnswers({"image": (runner, INPUTS)})
    assert begun.wait(LONG)
    stopping = threading.Thread(target=ahead.stop)
    stopping.start()
    stopping.join(0.05)
    assert stopping.is_alive()  # the runtime computes still: it is not unloaded beneath that
    go_on.set()
    stopping.join(LONG)
    assert not stopping.is_alive()
    assert runner.asked == [0]


@pytest.fixture
def slow_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime as if it were slow."""
    kind = type(get_target("onnx"))
    pace = Pace(asked=((float("inf"), 3),), seconds={"float32": 0.0, "float16": 0.0})
    places = replace(kind.capabilities.places, slow_runtime=pace)
    monkeypatch.setattr(kind, "capabilities", replace(kind.capabilities, places=places))


@pytest.mark.slow  # where another fails, below
@pytest.mark.usefixtures("slow_onnx")
def test_the_first_slow_bundle_is_written_before_the_others_and_checked_after_them(tmp_path: Path) -> None:
    model, told = mcd.load_model("nano"), list[str]()
    alone = mcd.export(model, "onnx", "fp16", tmp_path / "alone", tower="image")
    found = mcd.export_all(model, "onnx", ["w8", "fp16", "fp32"], tmp_path, tower="image", progress=told.append)
    assert [bundle.manifest.towers["image"].precision for bundle in found] == ["w8", "fp16", "fp32"]
    order = [text.partition(": image tower, ")[::2] for text in told]
    steps_of = [(name.rpartition("-")[2], what) for name, what in order if what in ("converting", "structure")]
    assert steps_of == [
        ("w8", "converting"),
        ("fp16", "converting"),
        ("fp16", "structure"),
        ("fp32", "converting"),
        ("fp32", "structure"),
        ("w8", "structure"),
    ]
    again = mcd.export_all(model, "onnx", ["fp16", "fp32"], tmp_path / "again", tower="image")[0]
    shipped = [check for bundle in (alone, again) for check in bundle.parity if check.step == "shipped"]
    assert [check.status for check in shipped] == ["passed", "passed"]
    worst = [check.deviation.relative for check in shipped if check.deviation is not None]
    assert worst[1] == pytest.approx(worst[0], rel=1e-3)  # sums of one input are in another order
    assert [check.detail for check in shipped] == ["3 of 16 inputs"] * 2


@pytest.mark.usefixtures("slow_onnx")
def test_a_bundle_that_is_asked_ahead_is_written_where_another_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[PrefetchedAnswers] = []

    class Noted(PrefetchedAnswers):
        def stop(self) -> None:
            super().stop()
            begun.append(self)

    monkeypatch.setattr(subject, "PrefetchedAnswers", Noted)
    check = steps.check

    def fails(work: steps.ExportState) -> None:
        if work.plan.path.name.endswith("fp32"):
            raise GateFailed("not this one")
        check(work)

    monkeypatch.setattr(steps, "STEPS", tuple(fails if step is check else step for step in steps.STEPS))
    with pytest.raises(GateFailed, match="not this one"):
        mcd.export_all(mcd.load_model("nano"), "onnx", ["fp16", "fp32"], tmp_path / "out", tower="image")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["nano-onnx-fp16"]
    assert len(begun) == 1
