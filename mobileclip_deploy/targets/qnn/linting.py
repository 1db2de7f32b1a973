"""Operations of a model that would leave the NPU, according to Qualcomm's own compiler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobileclip_deploy.targets.graph import Constant, Node
from mobileclip_deploy.targets.mil.lint.report import Finding, LintedOperation, LintReport, RuleText
from mobileclip_deploy.targets.qnn.emulator import placement

if TYPE_CHECKING:
    from mobileclip_deploy.targets.onnx.opening import OnnxArtifact
    from mobileclip_deploy.targets.qnn.chips import Chip

UNSUPPORTED = RuleText(
    name="unsupported",
    level="leaves",
    text="Qualcomm's compiler has no NPU kernel for it",
    sources={
        "QNN execution provider": "https://github.com/onnxruntime/onnxruntime-qnn/blob/main/docs/execution_providers/"
        "QNN-ExecutionProvider.md"
    },
)


def lint_model(artifact: OnnxArtifact, chip: Chip, tokens: int) -> LintReport:
    """Compiles a model for a chip, and reports for each of its operations whether it runs on the NPU.

    Args:
        tokens: size of a free length.

    Raises:
        InvalidInput: the artifact is damaged.
        NotRun: there is no compiler here.
    """
    graph, compilation = artifact.graph, placement(chip, artifact.file, tokens)
    reasons = {(operation.type, operation.name): operation.reason for operation in compilation.left}
    operations = []
    for node in graph.nodes:
        reason = reasons.get((node.type, node.name))
        findings = () if reason is None else (Finding(rule="unsupported", level="leaves", detail=reason),)
        operations.append(LintedOperation.of(node.name, node.type, _bytes(node), findings))
    return LintReport.of(artifact.path.name, (chip.label, chip.code), operations, (UNSUPPORTED,))


def _bytes(node: Node) -> int:
    return sum(value.values.nbytes for _, value in node.inputs if isinstance(value, Constant))
