"""What a bundle says of itself: what its artifacts are made of, what its export measured, by which gates it passed."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import refusal, run
from exports import Exports
from json_files import edited_json
from writing import subject

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.parity import Check, Gates
from mobileclip_deploy.parity.gates import exported_gates
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.verify.checks.contents import check_contents
from mobileclip_deploy.verify.checks.measured import check_measured
from mobileclip_deploy.verify.checks.settings import check_settings
from mobileclip_deploy.verify.subject import Evidence, OpenedSubject
from mobileclip_deploy.verify.unproven_claims import unproven_claims

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def sound(exports: Exports) -> Bundle:
    return exports.bundle("onnx", "fp16")


def edited(sound: Bundle, folder: Path, file: str, change: Change, model: mcd.MobileCLIP | None) -> OpenedSubject:
    """A copy whose manifest or figures say something else."""
    path = Path(shutil.copytree(sound.path, folder / sound.path.name))
    with edited_json(path / file) as data:
        change(data)
    bundle = Bundle.open(path)
    reference = Reference.read(bundle.golden)
    if bundle.measurements is not None:  # as today's: those of the export
        floors = sound.measurements.floor if sound.measurements is not None else {}
        reference = Reference(reference.inputs, reference.embeddings, reference.folded, floors)  # type: ignore[arg-type]
    return subject(bundle, model, reference, folder / "again")


def more_operators(data: dict[str, Any]) -> None:
    data["towers"]["text"]["contents"]["operators"]["Gelu"] += 1


def smaller_weights(data: dict[str, Any]) -> None:
    counted = data["towers"]["text"]["contents"]["weight_bytes"]
    counted[next(iter(counted))] //= 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: None, None),
        (more_operators, "operators Gelu is "),
        (smaller_weights, "weight_bytes float16 is "),
        (lambda data: data["towers"]["text"].pop("contents"), "is None in the manifest"),
    ],
    ids=["as written", "operators", "bytes", "left out"],
)
def test_what_an_artifact_is_made_of_is_counted_again(
    sound: Bundle, change: Change, said: str | None, tmp_path: Path
) -> None:
    (check,) = check_contents(edited(sound, tmp_path, "manifest.json", change, None).towers["text"])
    assert (check.status, said is None or said in str(check.detail)) == ("passed" if said is None else "failed", True)


def written_by(version: str, change: Change) -> Change:
    def both(data: dict[str, Any]) -> None:
        data["environment"]["mobileclip-deploy"] = version
        change(data)

    return both


@pytest.mark.parametrize(
    ("version", "change", "status"),
    [
        ("0.3.0", lambda data: None, "passed"),
        ("0.3.0", more_operators, "failed"),
        ("0.2.0", lambda data: None, "passed"),
        ("0.2.0", more_operators, "not run"),
        ("99.0", smaller_weights, "not run"),
    ],
)
def test_what_another_version_counted_is_compared_where_it_counts_alike(
    sound: Bundle, version: str, change: Change, status: str, tmp_path: Path
) -> None:
    own = edited(sound, tmp_path, "manifest.json", written_by(version, change), None)
    (check,) = check_contents(own.towers["text"])
    assert check.status == status
    assert status == "passed" or "in the manifest" in str(check.detail)


def test_what_counted_nothing_claims_nothing(sound: Bundle, tmp_path: Path) -> None:
    def without(data: dict[str, Any]) -> None:
        del data["towers"]["text"]["contents"]

    own = edited(sound, tmp_path, "manifest.json", written_by("0.1.0", without), None)
    assert not list(check_contents(own.towers["text"]))


def row(data: dict[str, Any], tower: str, step: str) -> dict[str, Any]:
    return next(one for one in data["checks"] if (one["tower"], one["step"]) == (tower, step))


def nearer(data: dict[str, Any]) -> None:
    row(data, "image", "shipped")["deviation"]["relative"] /= 100


def cleaner(data: dict[str, Any]) -> None:
    row(data, "text", "shipped")["deviation"]["snr_db"] += 30


def noisier(data: dict[str, Any]) -> None:
    data["floor"]["text"] *= 100


def another_engine(data: dict[str, Any]) -> None:
    """What a phone measured is no claim of what this machine would."""
    row(data, "image", "shipped").update(engine="Core ML (Neural Engine)")
    nearer(data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: None, None),
        (nearer, "image shipped relative "),
        (cleaner, "text shipped snr_db "),
        (noisier, "text noise floor: relative "),
        (another_engine, None),
    ],
    ids=["as written", "nearer", "cleaner", "a larger floor", "of another engine"],
)
def test_an_export_may_not_have_measured_itself_better_than_it_is(
    sound: Bundle, change: Change, said: str | None, tmp_path: Path
) -> None:
    own = edited(sound, tmp_path, "parity.json", change, mcd.load_model())
    (check,) = check_measured(own, sound.parity)
    assert (check.status, said is None or said in str(check.detail)) == ("passed" if said is None else "failed", True)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("points", 0.05, "1 of 1 rows"),
        ("points", -1.0, "both task top1 drop "),
        ("error", 0.01, "both task top1 interval "),
        ("lost", 0, "both task top1 lost "),
        ("won", 9, "both task top1 won "),
        ("divergence", 1e-3, "both task divergence "),
        ("examples", 73, "0 of 1 rows"),
        ("looks", 2, "1 of 1 rows"),
    ],
)
def test_a_recorded_loss_is_compared_over_the_same_views_or_rests_on_the_exporters_word(
    sound: Bundle, field: str, value: float, said: str, tmp_path: Path
) -> None:
    lost = {"points": 0.05, "error": 7.5, "lost": 3, "won": 2, "examples": 72, "looks": 1}
    now = Check(step="task", tower="both", status="passed", losses={"top1": lost}, divergence=2e-3)
    recorded = now.model_dump() | {"losses": {"top1": lost | {field: value}}}
    if field == "divergence":
        recorded = now.model_dump() | {"divergence": value}
    own = edited(sound, tmp_path, "parity.json", lambda data: data.update(checks=[recorded], floor={}), None)
    (check,) = check_measured(own, [now])
    assert (check.status == "failed") == said.startswith("both task")
    assert said in str(check.detail)
    own.thorough, own.source = True, object()
    claims = unproven_claims(own, [now])
    assert ("1 of 1 rows of parity.json" in claims) == (field in ("examples", "looks"))


def test_a_network_of_a_high_floor_moves_by_it_on_another_processor(sound: Bundle, tmp_path: Path) -> None:
    def as_elsewhere(data: dict[str, Any]) -> None:
        row(data, "image", "twin")["deviation"]["relative"] = 5.5e-5

    own = edited(sound, tmp_path, "parity.json", as_elsewhere, mcd.load_model())
    twin = next(check for check in sound.parity if (check.tower, check.step) == ("image", "twin"))
    today = [twin.model_copy(update={"deviation": twin.deviation.model_copy(update={"relative": 1.2e-4})})]
    reference = own.evidence.reference
    for floor, status in ((1e-6, "failed"), (5.5e-5, "passed")):
        known = replace(reference, floor={"image": floor})
        (check,) = check_measured(replace(own, evidence=Evidence(known)), today)
        told = [one for one in str(check.detail).split("; ") if "image twin" in one]
        assert bool(told) == (status == "failed")


def test_what_failed_is_not_told_twice(sound: Bundle, tmp_path: Path) -> None:
    today = [check.model_copy(update={"status": "failed"}) for check in sound.parity]
    (check,) = check_measured(edited(sound, tmp_path, "parity.json", nearer, None), today)
    assert check.status == "passed"


def test_functions_that_are_each_other_s_are_no_settings_of_the_checkpoint(sound: Bundle, tmp_path: Path) -> None:
    def swapped(data: dict[str, Any]) -> None:
        data["towers"]["image"]["function"], data["towers"]["text"]["function"] = "text", "image"

    (check,) = check_settings(edited(sound, tmp_path, "manifest.json", swapped, mcd.load_model()))
    assert check.status == "failed"
    assert "image function is text, the checkpoint has image; text function is image" in str(check.detail)


@pytest.mark.parametrize(
    ("gates", "told"),
    [
        (Gates(), ()),
        (Gates(task=5), ("task=5 (loosened)",)),
        (Gates(task=0.1, snr=3), ("snr=3 (loosened)", "task=0.1 (not the default)")),
        (Gates(cosine=0.5), ("cosine=0.5 (loosened)",)),
        (Gates(cosine=0.9999), ("cosine=0.9999 (not the default)",)),
        (Gates(semantic=1e-3), ("semantic=0.001 (loosened)",)),
        (Gates(semantic=1e-7, relative=1), ("semantic=1e-07 (not the default)", "relative=1 (loosened)")),
    ],
)
def test_gates_that_are_not_the_defaults_are_told(gates: Gates, told: tuple[str, ...]) -> None:
    assert gates.replaced([("fp32", 1e-6), ("w8", 1e-6)]) == told


@pytest.mark.parametrize("text", ["cosine=nan", "task=-1", "loose", "cosine=all of it", "everything=1", "semantic=inf"])
def test_recorded_gates_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="the manifest's option gates cannot be used"):
        exported_gates({"gates": text})


@pytest.mark.parametrize(
    "text", ["cosine=nan", "task=-1", "semantic=-1e-9", "loose", "cosine=all of it", "snr=inf", ""]
)
@pytest.mark.parametrize("command", ["verify", "compare"])
def test_a_bundle_with_such_gates_is_refused_in_one_line(
    sound: Bundle, command: str, text: str, tmp_path: Path
) -> None:
    own = edited(sound, tmp_path, "manifest.json", lambda data: data["options"].update(gates=text), None)
    bundles = [own.bundle.path] if command == "verify" else [own.bundle.path, sound.path]
    assert f"the manifest's option gates cannot be used: --gate {text}: " in refusal(run(command, *bundles))


@pytest.mark.parametrize(
    ("gates", "told", "code"),
    [("cosine=0.5", "cosine=0.5 (loosened)", 0), ("cosine=0.9999999", "cosine=0.9999999 (not the default)", 1)],
)
def test_bundles_are_compared_by_the_gates_of_their_exports_which_are_named(
    sound: Bundle, gates: str, told: str, code: int, tmp_path: Path
) -> None:
    own = edited(sound, tmp_path, "manifest.json", lambda data: data["options"].update(gates=gates), None)
    found = run("compare", own.bundle.path)
    assert f"{sound.path.name} has its own gates: {told}." in found.stderr
    assert found.code == code
    found = run("compare", own.bundle.path, "--gate", "cosine=0.9")
    assert (found.code, "cosine=0.9 (loosened)" in found.stderr, told in found.stderr) == (0, True, False)


@pytest.mark.parametrize("value", [-1, 0.5, None, ["cosine=0.5"], {"cosine": 0.5}], ids=str)
def test_recorded_gates_that_are_no_text_are_refused_in_one_line(sound: Bundle, value: object, tmp_path: Path) -> None:
    path = Path(shutil.copytree(sound.path, tmp_path / sound.path.name))
    with edited_json(path / "manifest.json") as data:
        data["options"]["gates"] = value
    assert "options.gates" in refusal(run("verify", path))
