"""What of a model would leave the NPU, as Qualcomm's own compiler says."""

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
    """Compile a model for a chip, and say of each of its operations whether it runs on the NPU.

    Args:
        tokens: what a free length is fixed to.

    Raises:
        InvalidInput: the artifact is damaged.
        NotRun: there is no compiler here.
    """
    graph, made = artifact.graph, placement(chip, artifact.file, tokens)
    reasons = {(one.type, one.name): one.reason for one in made.left}
    operations = []
    for node in graph.nodes:
        reason = reasons.get((node.type, node.name))
        found = () if reason is None else (Finding(rule="unsupported", level="leaves", detail=reason),)
        operations.append(LintedOperation.of(node.name, node.type, _bytes(node), found))
    return LintReport.of(artifact.path.name, (chip.label, chip.code), operations, (UNSUPPORTED,))


def _bytes(node: Node) -> int:
    return sum(value.values.nbytes for _, value in node.inputs if isinstance(value, Constant))
