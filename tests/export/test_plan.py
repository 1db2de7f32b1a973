"""What a request for an export comes to, decided without a checkpoint."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from command_line import refusal, run

from mobileclip_deploy import errors
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.export.request import Choices, ExportRequest, choose
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.targets import get_target

DEPLOYMENT = {"deployment_target": "iOS17"}


def chosen(*targets: str, precisions: tuple[str, ...] = ("fp32",), **options: Any) -> Choices:
    return choose(ExportRequest(targets, precisions, options=options))


def labels(choices: Choices) -> list[str]:
    return [target.label for target, _ in choices.pairs]


def test_a_repeated_target_adds_to_the_ones_before_it() -> None:
    assert labels(chosen("onnx", "coreml")) == labels(chosen("onnx,coreml")) == ["onnx", "coreml"]
    assert labels(chosen("coreml,onnx", "coreml", "executorch")) == ["coreml", "onnx", "executorch"]


def test_all_leaves_out_what_a_target_lacks_wherever_it_stands() -> None:
    for targets in (("all",), ("onnx", "all"), ("onnx,All",)):
        found = chosen(*targets, precisions=("w4p",))
        assert "coreml" in labels(found)
        assert "onnx has no w4p: left out." in found.notes


def test_the_command_line_takes_a_target_several_times(tmp_path: Path) -> None:
    for name in ("onnx", "coreml"):  # either place is taken: both were asked for
        taken = tmp_path / f"nano-{name}-fp32"
        taken.mkdir()
        (taken / "manifest.json").write_text("{}")
        arguments = ["--target", "onnx", "--target", "coreml", "--precision", "fp32", "-o", tmp_path]
        assert f"nano-{name}-fp32 exists" in refusal(run("export", *map(str, arguments)))
        (taken / "manifest.json").unlink()
        taken.rmdir()


def test_names_are_known_in_any_capitals() -> None:
    assert labels(chosen("ONNX", "CoreML,onnx", "ExecuTorch-CoreML")) == ["onnx", "coreml", "executorch-coreml"]
    ((_, precisions),) = chosen("onnx", precisions=("Image=FP16,text=Fp32",)).pairs
    assert precisions == {"image": "fp16", "text": "fp32"}
    assert chosen("onnx", precisions=("Smallest",)).pairs[0][1] is None
    assert get_target("EXECUTORCH").name == "executorch"
    assert load_variant("NANO").name == "nano"


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: chosen("ONXN"), r"unknown target 'ONXN', did you mean onnx\?"),
        (lambda: chosen("coreML2"), r"did you mean coreml\?"),
        (lambda: chosen("onnx", precisions=("FP61",)), r"unknown precision 'FP61', did you mean fp16\?"),
        (lambda: chosen("onnx", precisions=("SMALEST",)), r"did you mean smallest\?"),
        (lambda: load_variant("NANNO"), r"did you mean nano\?"),
        (lambda: chosen("executorch", backend="XNPACK"), r"did you mean xnnpack\?"),
    ],
)
def test_an_unknown_name_in_capitals_meets_the_one_that_was_meant(ask: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ask()


def test_an_unknown_precision_lists_those_that_can_be_given() -> None:
    with pytest.raises(UsageError, match=r"known: fp32, .*smallest") as refused:
        chosen("onnx", precisions=("none",))
    assert "mixed" not in str(refused.value)


@pytest.mark.parametrize(
    ("targets", "options", "says"),
    [
        (("onnx",), DEPLOYMENT, "`deployment_target` is Core ML's; add `target='coreml'`"),
        (("executorch",), DEPLOYMENT, "`deployment_target`: not used by executorch; leave it out"),
        (("onnx", "executorch"), DEPLOYMENT, "not used by executorch"),
        (("executorch",), {"deployment_target": "nonsense"}, "not used by executorch"),
        (("executorch-vulkan",), DEPLOYMENT, "not used by executorch-vulkan"),
        (("executorch-coreml",), {"fast_depthwise": False}, "`fast_depthwise`: not used by executorch-coreml"),
        (("coreml",), {"fast_depthwise": False}, "`fast_depthwise` is ExecuTorch's"),
        (("onnx",), {"colour": "red"}, "unknown option 'colour'"),
    ],
)
def test_an_option_that_nothing_named_would_use_is_refused(
    targets: tuple[str, ...], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        chosen(*targets, **options)


def test_an_option_is_taken_where_one_of_those_named_uses_it() -> None:
    assert labels(chosen("coreml", "executorch", **DEPLOYMENT)) == ["coreml", "executorch"]
    assert labels(chosen("executorch", backend="xnnpack,coreml", **DEPLOYMENT)) == ["executorch", "executorch-coreml"]


@pytest.mark.parametrize(
    ("target", "precisions"), [("onnx", ("w6p", "w4p", "w4p-p50")), ("coreai", ("w8a8", "w4p-p50"))]
)
def test_precisions_that_a_target_lacks_are_refused(target: str, precisions: tuple[str, ...]) -> None:
    for name in precisions:
        with pytest.raises(errors.UsageError, match=f"{target} has no precision {name}; it has"):
            get_target(target).require({"image": name})


def test_all_leaves_out_what_is_not_installed_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, package=None: None if name == "coreai_torch" else find(name, package)
    )
    found = choose(ExportRequest(("all",), ("fp32",)))
    assert "coreai" not in [target.name for target, _ in found.pairs]
    (note,) = [note for note in found.notes if "coreai" in note]
    assert note.startswith("Left out: target coreai needs coreai_torch; type: pip install 'mobileclip-deploy[coreai]'")
    assert "wheels for Linux x86-64 (glibc 2.34 or newer) and macOS 26 on arm64, CPython 3.11 to 3.14" in note


def test_a_classifiers_folder_is_called_so(tmp_path: Path) -> None:
    taken = tmp_path / "nano-onnx-fp16-classifier"
    taken.mkdir()
    (taken / "manifest.json").write_text("{}")
    line = refusal(run("export", "--target", "onnx", "--labels", "pizza,rocket,tree", "-o", tmp_path))
    assert f"{taken} exists" in line
