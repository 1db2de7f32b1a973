"""The lock file: drift beyond noise fails, noise does not, and nothing is accepted that did not pass."""

import json
import math
from pathlib import Path

import pytest

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.parity import ParityReport
from mobileclip_deploy.parity.baseline import (
    LockedBundle,
    ParityLock,
    Tolerances,
    check_drift,
    locked_figures,
    read_lock,
)
from mobileclip_deploy.parity.report import Check

FIGURES = {
    "image shipped": {"relative": 2e-3, "cosine": 0.999998, "snr_db": 57.0},
    "image twin": {"relative": 8e-7, "cosine": 1.0, "snr_db": 122.0},
    "both task": {"top1": 53.2, "image_to_text_recall@1": 44.1},
}


def locked(changes: dict[str, dict[str, float]] | None = None, size: int = 1000, sha: str = "a" * 64) -> LockedBundle:
    checks = {check: figures | (changes or {}).get(check, {}) for check, figures in FIGURES.items()}
    return LockedBundle(checkpoint_sha256=sha, checks=checks, bytes={"image": size})


LOCK = ParityLock().accept("it", locked())

NOISE: dict[str, dict[str, dict[str, float]]] = {
    "the same": {},
    "rounding of another processor": {"image twin": {"relative": 3e-6, "cosine": 1 - 1e-6, "snr_db": 110}},
    "exact to the bit": {"image shipped": {"relative": 0, "cosine": 1}},
    "half as far again": {"image shipped": {"relative": 2.9e-3, "snr_db": 55.2}},
    "five of two thousand images": {"both task": {"top1": 52.95}},
    "better": {"image shipped": {"relative": 1e-5, "snr_db": 90}},
}
DRIFT: dict[str, tuple[dict[str, dict[str, float]], str]] = {
    "twice as far": ({"image shipped": {"relative": 4e-3}}, "image shipped relative 0.004, accepted 0.002"),
    "three decibels": ({"image shipped": {"snr_db": 54}}, "image shipped snr_db 54.0"),
    "another graph": ({"image twin": {"relative": 9e-6}}, "image twin relative"),
    "fewer hits": ({"both task": {"top1": 52.8}}, "both task top1 52.80, accepted 53.20 (-0.40 points)"),
    "more hits": ({"both task": {"top1": 53.6}}, "both task top1 53.60"),
    "no number": ({"image shipped": {"cosine": math.nan}}, "image shipped cosine nan"),
}


@pytest.mark.parametrize("case", NOISE)
def test_noise_is_not_drift(case: str) -> None:
    assert {check.status for check in check_drift("it", locked(NOISE[case]), LOCK)} == {"passed"}


@pytest.mark.parametrize("case", DRIFT)
def test_drift_fails_and_names_the_figure(case: str) -> None:
    changes, named = DRIFT[case]
    (failed,) = [check for check in check_drift("it", locked(changes), LOCK) if check.status == "failed"]
    assert named in f"{failed.tower} {failed.detail}"


def test_bytes_and_what_is_measured_no_longer_drift_too() -> None:
    assert check_drift("it", locked(size=1009), LOCK)[0].status == "passed"
    assert "bytes 1,011, accepted 1,000" in (check_drift("it", locked(size=1011), LOCK)[0].detail or "")
    today = LockedBundle(checkpoint_sha256="a" * 64, checks={}, bytes={"image": 1000})
    failed = [check for check in check_drift("it", today, LOCK) if check.status == "failed"]
    assert {check.tower for check in failed} == {"image", "both"}


def test_what_was_left_out_on_purpose_is_said_not_to_be_measured_and_the_rest_is_held() -> None:
    today = LockedBundle(
        checkpoint_sha256="a" * 64, checks={"image shipped": FIGURES["image shipped"]}, bytes={"image": 1000}
    )
    image, both = check_drift("it", today, LOCK, left_out={"image twin", "both task"})
    assert (image.status, image.detail) == ("passed", "no drift; not measured: twin")
    assert (both.status, both.left_out, both.detail) == ("not run", True, "not measured: task")
    report = ParityReport(bundle="it", variant="v", target="onnx", checks=(image, both))
    assert report.passed
    further = today.model_copy(update={"checks": {"image shipped": FIGURES["image shipped"] | {"relative": 4e-3}}})
    image = check_drift("it", further, LOCK, left_out={"image twin", "both task"})[0]
    assert image.status == "failed"
    assert (image.detail or "").endswith("accepted 0.002; not measured: twin")


def test_the_checkpoint_of_a_lock_is_its_weights_whatever_file_holds_them() -> None:
    other = locked(sha="b" * 64).model_copy(update={"weights": "3" * 64})
    assert {check.status for check in check_drift("it", other, ParityLock().accept("it", _of_weights("3" * 64)))} == {
        "passed"
    }
    with pytest.raises(InvalidInput, match="another checkpoint"):
        check_drift("it", other, ParityLock().accept("it", _of_weights("4" * 64)))
    with pytest.raises(InvalidInput, match="another checkpoint"):
        check_drift("it", other, LOCK)  # of an earlier version: it has the file's hash alone
    assert "weights" not in LOCK.to_json()
    told = locked_figures(
        ParityReport(bundle="it", variant="nano", target="onnx", checks=()), mcd.load_model().provenance, {"image": 1}
    )
    assert len(told.weights or "") == 64


def _of_weights(weights: str) -> LockedBundle:
    return locked().model_copy(update={"weights": weights})


def test_another_bundle_or_checkpoint_is_refused_not_compared() -> None:
    with pytest.raises(InvalidInput, match=r"no bundle other \(it has it\); add it with `accept=True`"):
        check_drift("other", locked(), LOCK)
    with pytest.raises(InvalidInput, match="another checkpoint"):
        check_drift("it", locked(sha="b" * 64), LOCK)


def test_a_lock_file_is_read_as_it_was_written_and_a_damaged_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "parity.lock.json"
    with pytest.raises(InvalidInput, match="`accept=True`"):
        read_lock(path)
    path.write_text(LOCK.to_json(), encoding="utf-8")
    assert read_lock(path) == LOCK
    assert read_lock(path).accept("it", locked()).to_json() == path.read_text(encoding="utf-8")
    path.write_text(json.dumps({"bundles": []}), encoding="utf-8")
    with pytest.raises(InvalidInput, match="bundles"):
        read_lock(path)


def test_the_markdown_says_what_failed_before_the_table() -> None:
    checks = (Check(step="shipped", tower="image", status="failed", detail="a|b"), Check.not_run("twin", "text", "why"))
    text = ParityReport(bundle="it", variant="v", target="onnx", checks=checks).markdown()
    lines = text.splitlines()
    assert lines[0] == "### it: parity failed"
    assert lines[2:4] == [r"- **image shipped failed**: a\|b", "- **text twin not run**: why"]
    assert "| image | shipped | failed |" in text


def test_the_tolerances_in_a_lock_file_are_those_that_count() -> None:
    told = json.loads(ParityLock().to_json())["tolerances"]
    assert told == {
        "deviation_factor": 1.5,
        "deviation_floor": 3e-6,
        "snr_db": 2,
        "snr_exact": 100,
        "points": 0.3,
        "bytes": 0.01,
    }
    accepted, today = (
        LockedBundle(checkpoint_sha256="a" * 64, checks={"image shipped": {"relative": value}}, bytes={"image": 1})
        for value in (1e-3, 2e-3)
    )
    for factor, status in ((1.5, "failed"), (2.5, "passed")):
        lock = ParityLock(tolerances=Tolerances(deviation_factor=factor)).accept("it", accepted)
        assert {check.status for check in check_drift("it", today, lock)} == {status}
