"""What `make test` proves at least once: every target, check, command, kind of fault and language.

A promise without a test in `make test` fails here, and so does a test that is named here and marked `slow`.
"""

import importlib
import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from faults.kinds import KINDS
from levels import ALL, QUICK

from mobileclip_deploy.cli import cli
from mobileclip_deploy.targets import targets
from mobileclip_deploy.verify import chain

CHECKS = {
    "files": "verify/test_files.py::test_a_file_that_a_library_reads_first_fails",
    "requested": "verify/test_requested.py::test_a_requested_entry_that_is_missing_fails",
    "settings": "faults/test_companion_faults.py::test_every_fault_beside_the_artifacts_fails",
    "companions": "faults/test_companion_faults.py::test_every_fault_beside_the_artifacts_fails",
    "golden": "parity/test_planted_faults.py::test_golden_embeddings_of_other_inputs_fail_without_the_checkpoint",
    "fit": "export/test_compact.py::test_other_axes_are_seen",
    "tags": "faults/test_tag_faults.py::test_rows_of_texts_are_compared_with_the_checkpoint",
    "joint": "targets/onnx/test_onnx_joint.py::test_a_planted_fault_fails_the_check",
    "relevance": "spaces/test_relevance.py::test_a_changed_background_or_threshold_is_seen",
    "structure": "parity/test_planted_faults.py::test_another_name_of_an_input_fails_structure",
    "folded": "verify/test_folded.py::test_a_folded_network_with_another_weight_fails_both_checks",
    "tower": "verify/test_folded.py::test_a_folded_network_with_another_weight_fails_both_checks",
    "twin": "parity/test_planted_faults.py::test_another_checkpoint_than_the_exported_one_fails",
    "stages": "targets/executorch/test_executorch_quantization.py::test_a_tower_that_keeps_a_batch_norm_cannot_pass",
    "shipped": "parity/test_planted_faults.py::test_weights_that_are_nan_fail",
    "pictures": "artifacts/layouts/test_ente.py::test_it_was_verified_with_pictures_from_64_pixels_to_12",
    "contexts": "targets/onnx/test_onnx_contexts.py::test_a_tower_that_is_right_at_its_full_length_alone_is_refused",
    "padding": "verify/test_padding.py::test_a_file_of_an_earlier_version_is_found_out",
    "weights": "verify/test_weights.py::test_a_changed_weight_fails_and_its_layer_is_named",
    "graph": "verify/test_masks.py::test_the_graph_is_asked_with_a_text_that_fills_the_context",
    "activations": "verify/test_activations.py::test_a_wrong_step_and_a_wrong_operation_are_found_without",
    "ranges": "verify/test_activations.py::test_a_wrong_step_and_a_wrong_operation_are_found_without",
    "reproduced": "faults/test_verified_bundles.py::test_every_check_finds_its_fault_in_one_bundle",
    "attachments": "faults/test_attachment_faults.py::test_a_fault_in_an_ort_file_fails",
    "place": "targets/litert/test_litert_gpu.py::test_the_check_fails_for_what_stays_on_the_cpu",
    "contents": "verify/test_claims.py::test_what_an_artifact_is_made_of_is_counted_again",
    "task": "parity/test_planted_faults.py::test_a_sound_bundle_passes_every_step",
    "sampled": "verify/test_quick.py::test_what_a_few_images_lose_by_chance_passes_and_a_real_loss_fails",
    "measured": "verify/test_claims.py::test_an_export_may_not_have_measured_itself_better_than_it_is",
    "cut": "verify/test_folded.py::test_the_loss_of_smaller_embeddings_is_recorded_with_its_interval",
}
"""Step -> the beginning of a test in which it fails, or, of pictures and the cut, measures."""
ROOT = Path(__file__).parents[1]
STEPS = sorted({path.stem for path in Path(chain.__file__).parent.glob("checks/*.py")} - {"__init__"})
FAMILIES = {"attachments": "ort", "stages": "prepared", "place": "gpu"}
"""Checks whose steps are named after the files, the stages or the place that they check: one of these names."""
LANGUAGES = {
    "Swift, the client": "clients/test_swift.py::test_core_ml_gets_what_it_takes",
    "Swift, the harness": "benchmark/ios/test_round_trip.py::test_a_job_goes_to_the_phone_and_its_result_comes_back",
    "Java": "clients/test_java.py::test_the_packages_own_checks_pass_on_a_published_bundle",
    "JavaScript": "clients/test_js.py::test_the_packages_own_tests_pass_on_a_published_bundle",
    "JavaScript, transformers.js": "end_to_end/test_transformers_js.py::test_the_client_s_zero_shot_pipeline",
    "JavaScript, a browser's benchmark": "benchmark/browser/test_driver.py::test_a_browser_measures_with_right_answers",
    "C++, the harness": "benchmark/android/test_harness.py::test_its_record_is_what_the_schema_says",
}
"""Kotlin is not among them: its compiler is fetched, which `make test-all` does."""


@pytest.fixture(scope="module")
def quick(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Name -> function of every test of `make test`, where all tests are collected."""
    if not request.config.stash[ALL]:
        pytest.skip("a part of the tests was asked for; all of them are needed to say that a promise has one")
    return {item.nodeid.removeprefix("tests/"): item.function for item in request.config.stash[QUICK]}


def proven(quick: dict[str, Any], beginning: str) -> bool:
    return any(name.startswith(beginning) for name in quick)


def test_every_target_keeps_its_promises(quick: dict[str, Any]) -> None:
    test = "targets/test_conformance.py::test_a_target_keeps_its_promises"
    assert [name for name in targets() if not proven(quick, f"{test}[{name}-")] == []


def test_every_check_fails_once(quick: dict[str, Any]) -> None:
    assert {*CHECKS} == {*STEPS}
    assert [name for name, test in CHECKS.items() if not proven(quick, test)] == []


def test_a_check_has_one_name() -> None:
    order = inspect.getsource(chain)
    page = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8")
    rows = {*re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)))}
    for step in STEPS:
        module = importlib.import_module(f"mobileclip_deploy.verify.checks.{step}")
        assert callable(getattr(module, f"check_{step}"))
        assert f"check_{step}" in order or step == "cut"  # an export adds it to its report
        assert FAMILIES.get(step, step) in rows, f"docs/proof.md has no row of {step}"


def test_every_command_is_run_once(quick: dict[str, Any]) -> None:
    source = cache(inspect.getsource)
    called = {name for text in map(source, {*quick.values()}) for name in re.findall(r'"([a-z]+)"', text)}
    assert {*cli.commands} - called == set()


def test_every_kind_of_fault_is_planted_once(quick: dict[str, Any]) -> None:
    test = "faults/test_kinds.py::test_a_kind_of_fault_is_found_and_its_operation_named"
    planted = [name for name in quick if name.startswith(test)]
    assert [str(kind) for kind in KINDS if not any(name.endswith(f"-{kind}]") for name in planted)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_is_run_once(quick: dict[str, Any], language: str) -> None:
    assert proven(quick, LANGUAGES[language])
