"""MODEL_CARD.md of a bundle: what it is, what it may be used for, what was measured on it."""

from __future__ import annotations

from mobileclip_deploy.bundle import Manifest
from mobileclip_deploy.model.variants import load_variant
from mobileclip_deploy.parity import Check

__all__ = ["model_card"]


def model_card(manifest: Manifest) -> str:
    """Markdown, from the manifest alone."""
    variant, checkpoint = load_variant(manifest.variant), manifest.checkpoint
    lines = [
        f"# {variant.title} for {manifest.target}",
        "",
        f"Exported by mobileclip-deploy from `{checkpoint.file}` (sha256 `{checkpoint.sha256}`, {checkpoint.layout} "
        f"layout). Embedding space `{manifest.embedding_space}`: compare its embeddings only with those of bundles "
        "that carry the same id.",
        "",
        "## Licence of the weights",
        "",
        checkpoint.licence + (f", {variant.licence.url}" if variant.licence.url else "") + ".",
    ]
    if checkpoint.research_only:
        lines += ["", "**Research only: these weights and everything derived from them must not be redistributed.**"]
    lines += [
        "",
        "## Artifacts",
        "",
        "| tower | file | bytes | precision | input | output |",
        "|---|---|---|---|---|---|",
    ]
    for tower, entry in manifest.towers.items():
        tensors = [f"`{t.name}` {t.dtype} {[size or 'N' for size in t.shape]}" for t in (entry.input, entry.output)]
        file = f"`{entry.file}`" + (f", function `{entry.function}`" if entry.function else "")
        lines.append(f"| {tower} | {file} | {entry.bytes:,} | {entry.precision} | {' | '.join(tensors)} |")
    lines += ["", "## Parity with the checkpoint", ""]
    if failed := [f"{check.tower} {check.step}" for check in manifest.parity if check.status == "failed"]:
        lines += [f"**FAILED: {', '.join(failed)}. Written with --allow-failing; do not ship it.**", ""]
    if manifest.parity:
        lines += [
            "| tower | check | outcome | gate | relative | cosine | dB | engine |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [_row(check) for check in manifest.parity]
    else:
        lines.append("Not verified.")
    if (classifier := manifest.classifier) is not None:
        names = ", ".join(classifier.labels[:20]) + (", ..." if len(classifier.labels) > 20 else "")
        lines += ["", "## Labels", "", f"{len(classifier.labels)}, asked as `{classifier.template}`: {names}."]
    spec = manifest.preprocess
    lines += [
        "",
        "## Input",
        "",
        f"Images: shorter side to {spec.size} ({spec.interpolation}, antialiased), centre crop, RGB; mean and std are "
        "in the graph. "
        + (
            "Out: probabilities in the order of `labels.json`; there is no text tower."
            if classifier is not None
            else f"Text: `tokenizer/`, {manifest.tokenizer.context_length} ids: {manifest.tokenizer.sot}, the text, "
            f"{manifest.tokenizer.eot}, then {manifest.tokenizer.pad} (the padding id is part of the model)."
        ),
    ]
    return "\n".join(lines) + "\n"


def _row(check: Check) -> str:
    figures = ["", "", ""]
    if check.deviation is not None:
        snr = "exact" if check.deviation.snr_db is None else f"{check.deviation.snr_db:.1f}"
        figures = [f"{check.deviation.relative:.1e}", f"{check.deviation.cosine:.6f}", snr]
    status = "FAILED" if check.status == "failed" else check.status
    cells = [check.tower, check.step, status, check.gate or "", *figures, check.engine or check.detail or ""]
    return "| " + " | ".join(cells) + " |"
