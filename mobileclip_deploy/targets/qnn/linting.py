"""What of a model would leave the NPU, as Qualcomm's own compiler says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobileclip_deploy.mil.lint import Finding, LintedOperation, LintReport, RuleText, switches
from mobileclip_deploy.targets.graph import Constant, Node
from mobileclip_deploy.targets.qnn.emulator import placement

if TYPE_CHECKING:
    from mobileclip_deploy.targets.qnn.opening import QnnArtifact

__all__ = ["lint_contexts"]

UNSUPPORTED = RuleText(
    name="unsupported",
    level="leaves",
    text="Qualcomm's compiler has no NPU kernel for it",
    sources={
        "QNN execution provider": "https://github.com/onnxruntime/onnxruntime-qnn/blob/main/docs/execution_providers/"
        "QNN-ExecutionProvider.md"
    },
)


def lint_contexts(artifact: QnnArtifact) -> tuple[LintReport, ...]:
    """Compile a model again for each of its chips, and say of each of its operations whether it runs on the NPU.

    Raises:
        InvalidInput: the artifact is damaged.
        NotRun: there is no compiler here.
    """
    reports = []
    graph, contexts = artifact.graph, artifact.contexts
    for context in contexts:
        made = placement(context.chip, artifact.source.path)
        reasons = {(one.type, one.name): one.reason for one in made.left}
        operations = []
        for node in graph.nodes:
            reason = reasons.get((node.type, node.name))
            found = () if reason is None else (Finding(rule="unsupported", level="leaves", detail=reason),)
            operations.append(LintedOperation.of(node.name, node.type, _bytes(node), found))
        reports.append(
            LintReport(
                package=artifact.path.name,
                function=context.chip.label,
                device=context.chip.code,
                evaluated=False,
                operations=tuple(operations),
                package_findings=(),
                switches=switches(operations),
                rules=(UNSUPPORTED,) if made.left else (),
            )
        )
    return tuple(reports)


def _bytes(node: Node) -> int:
    return sum(value.values.nbytes for _, value in node.inputs if isinstance(value, Constant))
