"""What of a .tflite would leave the GPU, as LiteRT's own compiler says."""

from __future__ import annotations

from mobileclip_deploy.mil.lint.report import Finding, LintedOperation, LintReport, RuleText
from mobileclip_deploy.targets.litert.gpu import compile_for_gpu, layer_name
from mobileclip_deploy.targets.litert.model_file import ModelFile, Operator
from mobileclip_deploy.targets.litert.opening import LiteRTArtifact

SOURCE = {"LiteRT's GPU accelerator": "https://ai.google.dev/edge/litert/next/gpu"}
UNSUPPORTED = RuleText(
    name="unsupported", level="leaves", text="LiteRT's compiler has no GPU kernel for it", sources=SOURCE
)
REFUSED = RuleText(
    name="refused", level="leaves", text="LiteRT's compiler failed, and the whole file stays on the CPU", sources=SOURCE
)


def lint_model(artifact: LiteRTArtifact, device: str) -> LintReport:
    """Compile a file for the GPU, and say of each operation whether it runs there.

    Raises:
        InvalidInput: the file is damaged.
        NotRun: there is no software Vulkan here, or the compiler did not return in time.
    """
    model, found = artifact.model, compile_for_gpu(artifact)
    reasons = {(one.type, one.name): one.reason for one in found.left}
    refused = () if found.refusal is None else (Finding(rule="refused", level="leaves", detail=found.refusal),)
    counted: set[int] = set()
    operations = []
    for operator in model.operators:
        name = layer_name(model.tensors[operator.outputs[0]].name)
        reason = reasons.get((operator.type, name))
        size, findings = _weight_bytes(model, operator, counted), refused
        if reason is not None:
            findings = (Finding(rule="unsupported", level="leaves", detail=reason or "it gives no reason"),)
        operations.append(LintedOperation.of(name, operator.type, size, findings))
    return LintReport.of(artifact.path.name, ("main", device), operations, (UNSUPPORTED, REFUSED), refused)


def _weight_bytes(model: ModelFile, operator: Operator, counted: set[int]) -> int:
    """The bytes of the constants that an operator takes, each counted where it is taken first."""
    own = {place for place in operator.inputs if place >= 0 and model.tensors[place].values is not None} - counted
    counted |= own
    return sum(model.tensors[place].bytes for place in own)
