"""What a bundle's options request is there; what nothing can compute is on a list that `verify` prints."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from exports import Exports
from indices import units
from json_files import edited_json
from relevant_bundle import NONE, relevant_bundle

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import MANIFEST, Bundle
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.embedding import exact_texts
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.parity import Gates
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.spaces.axes import unit_if_distinct
from mobileclip_deploy.spaces.int8 import integers_of
from mobileclip_deploy.spaces.relevance import Relevance
from mobileclip_deploy.spaces.relevance_fit import MatchThreshold, RelevanceSamples, fit, measured_curve
from mobileclip_deploy.spaces.relevance_learning import LearnedRelevance
from mobileclip_deploy.spaces.relevance_set import words_at_random
from mobileclip_deploy.verify.chain import verify_subject
from mobileclip_deploy.verify.checks.relevance import check_relevance
from mobileclip_deploy.verify.checks.requested import check_requested
from mobileclip_deploy.verify.subject import Evidence, OpenedSubject
from mobileclip_deploy.verify.unproven_claims import unproven_claims

Manifest = dict[str, Any]


def opened(path: Path, source: Source | None = None) -> OpenedSubject:
    bundle = Bundle.open(path)
    return OpenedSubject(bundle, Evidence(Reference.read(bundle.golden)), Gates(), path.parent, source=source)


@pytest.fixture
def relevant(exports: Exports, tmp_path: Path) -> Bundle:
    return relevant_bundle(exports.unverified("onnx", "w8", "both"), tmp_path / "nano-relevant")


def dropped(manifest: Manifest) -> None:
    del manifest["relevance"]


def unnamed(manifest: Manifest) -> None:
    del manifest["options"]["background"]


def renamed(manifest: Manifest) -> None:
    manifest["relevance"]["background"] = "other"


def cut(manifest: Manifest) -> None:
    manifest["options"]["embedding_size"] = "64"


def unknown(manifest: Manifest) -> None:
    manifest["options"]["allow_cpu"] = "on"


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (dropped, "the options require `background`, but `relevance` is missing"),
        (unnamed, "the option `background` does not name its pictures"),
        (renamed, "the option `background` does not name its pictures"),
        (cut, "require an `embedding_size` of 64"),
        (unknown, "the option 'allow_cpu' is not known"),
    ],
)
def test_a_requested_entry_that_is_missing_fails(
    relevant: Bundle, edit: Callable[[Manifest], None], reason: str
) -> None:
    with edited_json(relevant.path / MANIFEST) as manifest:
        edit(manifest)
    (check,) = check_requested(opened(relevant.path))
    assert check.status == "failed"
    assert reason in str(check.detail)


def test_a_manifest_without_such_options_opens_as_before(exports: Exports, relevant: Bundle) -> None:
    assert [*check_requested(opened(exports.bundle("onnx", "fp16").path))] == []
    assert [check.status for check in check_requested(opened(relevant.path))] == ["passed"]
    with edited_json(relevant.path / MANIFEST) as manifest:
        unnamed(manifest)
        manifest["environment"]["mobileclip-deploy"] = "0.3.0"  # which recorded none
    assert [*check_requested(opened(relevant.path))] == []


def of_qnn(manifest: Manifest, precision: str, **options: str) -> None:
    manifest["target"] = "qnn"
    manifest["options"] |= options
    for entry in manifest["towers"].values():
        entry["precision"] = precision


@pytest.mark.parametrize(
    ("precision", "options", "reason"),
    [
        ("w8a16", {"float_layers": "image.encoder.none"}, "unknown layer 'image.encoder.none'"),
        ("fp16", {"float_layers": "image.encoder"}, "all of the image tower is in float16"),
        ("fp16", {"chip": "v75,v79", "union": "on"}, None),  # of version 0.4
        ("w8a16", {"float_layers": "image.encoder.stem"}, None),
    ],
)
def test_options_that_no_export_takes_fail(
    relevant: Bundle, precision: str, options: dict[str, str], reason: str | None
) -> None:
    with edited_json(relevant.path / MANIFEST) as manifest:
        of_qnn(manifest, precision, **options)
    (check,) = check_requested(opened(relevant.path, Source.of(mcd.load_model()).folded()))
    assert check.status == ("passed" if reason is None else "failed"), check.detail
    assert reason is None or "no export takes its options: " in str(check.detail)
    assert reason is None or reason in str(check.detail)


def test_a_permission_that_no_file_need_show_is_on_the_exporters_word(relevant: Bundle) -> None:
    with edited_json(relevant.path / MANIFEST) as manifest:
        of_qnn(manifest, "fp16", allow_cpu="on")
    assert "options.allow_cpu" in unproven_claims(opened(relevant.path), ())


@pytest.fixture
def learned(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Source]:
    """A bundle whose threshold was learned without captions of the user, and its checkpoint."""
    given, model = exports.unverified("onnx", "w8", "both"), mcd.load_model()
    words = words_at_random(builtin_dataset().captions)
    answers = exact_texts(model, encode(words, model.variant.tokens))
    module = sys.modules[check_relevance.__module__]
    monkeypatch.setattr(module, "exact_texts", lambda *_: answers)  # once for all edits
    nonsense = unit_if_distinct(answers, "texts")
    background = integers_of(units(256, 8, given.manifest.embed_dim), 0.004)[0]
    none = np.zeros((0, given.manifest.embed_dim))
    samples = RelevanceSamples(none, none, nonsense, background * 0.004)
    found = fit(samples)
    rounded = MatchThreshold(found.weights, 0.0, round(found.intercept, 6), round(found.slope, 6))
    path = relevant_bundle(given, tmp_path / "learned").path
    learned = LearnedRelevance(Relevance(background, 0.004, rounded), NONE, measured_curve(samples))
    entry = learned.write(path, Reference.read(given.golden).of("text"))
    with edited_json(path / MANIFEST) as manifest:
        manifest["relevance"] = entry.model_dump(mode="json", exclude_none=True)
    return path, Source.of(model).folded()


@pytest.mark.slow
def test_a_threshold_is_learned_again_from_the_background(learned: tuple[Path, Source]) -> None:
    path, source = learned
    (check,) = check_relevance(subject := opened(path, source))
    assert check.status == "passed", check.detail
    assert unproven_claims(subject, [check]) == ("relevance.background", "relevance.images_sha256")
    whole = (path / MANIFEST).read_text(encoding="utf-8")
    moved = 0.01 * np.log(1000)  # so that what golden prompts need in 1,000 pictures stays
    for change, reason in (
        (lambda told: told.update(slope=told["slope"] + 0.01, intercept=told["intercept"] - moved), "learned again"),
        (lambda told: told.update(false_alarms=0.1), "false_alarms is 0.1, expected 0.2"),
        (lambda told: told.update(curve=told["curve"][1:]), "curve differs from a new fit"),
        (lambda told: told["curve"][0].update(missed=0.01), "curve differs from a new fit"),
        (lambda told: told.update(queries_sha256="0" * 64), "queries_sha256 is present"),
    ):
        (path / MANIFEST).write_text(whole, encoding="utf-8")
        with edited_json(path / MANIFEST) as manifest:
            change(manifest["relevance"])
        (check,) = check_relevance(opened(path, source))
        assert (check.status, reason in str(check.detail)) == ("failed", True), check.detail


def test_what_nothing_can_compute_is_listed_and_printed(
    exports: Exports, relevant: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mcd.verify(exports.bundle("onnx", "fp16"), checkpoint=exports.checkpoint).on_word == ()
    report = verify_subject(opened(relevant.path))
    assert {"relevance.background", "relevance.queries", "relevance.curve"} <= set(report.on_word)
    monkeypatch.chdir(tmp_path)
    listed = "not computable here, taken from the export's own report: relevance.background,"
    assert listed in report.markdown()
    told = run("verify", relevant.path, "--checks", "quick").stderr.splitlines()
    (line,) = [one for one in told if "Not proven" in one or "export's own report" in one]
    assert line.startswith("Not proven: ")
    assert listed in line
