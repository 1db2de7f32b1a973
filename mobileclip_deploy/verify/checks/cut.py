"""Record of the accuracy that smaller embeddings lost."""

from mobileclip_deploy.evaluation.evaluate import Measurement
from mobileclip_deploy.evaluation.metrics import paired_difference
from mobileclip_deploy.network.model.provenance import Compacted
from mobileclip_deploy.parity import Check

SHOWN = ("text_to_image_recall@1", "text_to_image_recall@5", "text_to_image_recall@10", "top1")


def check_cut(compacted: Compacted, full: Measurement, cut: Measurement) -> Check:
    """Returns the accuracy that smaller embeddings lost, in the words of a search. It is recorded without a bound,
    since the user chose the size. The artifacts are compared with the smaller embeddings."""
    changes = {name: paired_difference(cut.hits[name], full.hits[name]) for name in SHOWN if name in full.hits}
    figures = {name: cut.result.figures[name].value for name in changes}
    parts = [
        f"{name} {figures[name]:.1f}% ({change.value:+.1f} points, {change.low:+.1f} to {change.high:+.1f})"
        for name, change in changes.items()
    ]
    detail = f"{compacted.size} of {compacted.full_size} dimensions: {', '.join(parts)}"
    return Check(step="cut", tower="both", status="passed", figures=figures, detail=detail)
