"""Files of a bundle for readers other than this toolkit.

MODEL_CARD.md describes for people the bundle, its permitted uses and its measurements. preprocessor_config.json lets
clients of the Hugging Face libraries prepare images.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Manifest
from mobileclip_deploy.artifacts.bundle.licences import changes_made
from mobileclip_deploy.base.escaping import in_code, in_markdown
from mobileclip_deploy.network.model.variants import Preprocess, TowerName, load_variant
from mobileclip_deploy.parity import Check, StoredWeights

MODEL_CARD = "MODEL_CARD.md"


def model_card(
    manifest: Manifest,
    checks: Sequence[Check] = (),
    storage: Sequence[StoredWeights] = (),
    facts: Mapping[TowerName, Mapping[str, str]] = {},
) -> str:
    """Returns the card in Markdown, the same for the same bundle on every machine.

    It has the outcomes of checks, the figures that do not depend on the machine, and the storage of the weights.

    Args:
        facts: a target's facts about each artifact (`Artifact.facts`).
    """
    variant, checkpoint = load_variant(manifest.variant), manifest.checkpoint
    lines = [
        f"# {in_markdown(variant.title)} for {in_markdown(manifest.target)}",
        "",
        f"Exported by mobileclip-deploy from {in_code(checkpoint.file)} (sha256 {in_code(checkpoint.sha256)}, "
        f"{checkpoint.layout} layout). Embedding space {in_code(manifest.embedding_space)}: compare its embeddings "
        "only with those of bundles with the same id.",
        "",
        "## Licence of the weights",
        "",
        in_markdown(checkpoint.licence) + (f", {variant.licence.url}" if variant.licence.url else "") + ".",
        *_licence(manifest),
        "",
        "## Artifacts",
        "",
        "| tower | file | bytes | precision | input | output |",
        "|---|---|---|---|---|---|",
    ]
    for tower, entry in manifest.towers.items():
        tensors = [
            f"{in_code(t.name)} {in_markdown(t.dtype)} {[size or 'N' for size in t.shape]}"
            for t in (entry.input, entry.output)
        ]
        file = in_code(entry.file) + (f", function {in_code(entry.function)}" if entry.function else "")
        lines.append(f"| {tower} | {file} | {entry.bytes:,} | {entry.precision} | {' | '.join(tensors)} |")
    fact_lines = [
        f"- {tower}, {in_markdown(f'{subject}: {fact}')}." for tower in facts for subject, fact in facts[tower].items()
    ]
    lines += ["", *fact_lines] if fact_lines else []
    lines += ["", "## Parity with the checkpoint", ""]
    if failed := [f"{check.tower} {check.step}" for check in checks if check.status == "failed"]:
        lines += [f"**FAILED: {', '.join(failed)}. Written because `allow_failing` asked for it; do not ship it.**", ""]
    if any(check.status == "undecided" for check in checks):
        lines += ["**UNDECIDED**: accuracy was measured on too few pictures to decide whether it passes its gate.", ""]
    if checks:
        lines += [f"All measurements, the machine and the bounds are in `{manifest.measurements}`.", ""]
        lines += ["| tower | check | outcome |", "|---|---|---|"]
        lines += dict.fromkeys(f"| {check.tower} | {in_markdown(check.step)} | {_outcome(check)} |" for check in checks)
    else:
        lines.append("Not verified.")
    if storage:
        lines += ["", "## How the weights are stored", "", "| tower | grid | tensors | elements | bytes |"]
        lines += ["|---|---|---:|---:|---:|"]
        lines += [
            f"| {row.tower} | {in_markdown(row.grid)} | {row.layers} | {row.weights:,} | {row.bytes:,} |"
            for row in storage
        ]
    if (classifier := manifest.classifier) is not None:
        names = ", ".join(map(in_markdown, classifier.labels[:20])) + (", ..." if len(classifier.labels) > 20 else "")
        template, tags = classifier.template, classifier.tags
        alone = "the classes that the network was trained on" if tags is None else "learned from pictures"
        origin = alone if template is None else (f"in the prompt {in_code(template)}")
        lines += ["", "## Labels", "", f"{len(classifier.labels)}, {origin}: {names}."]
        if tags is not None:
            rule = tags.thresholds
            lines += [
                "",
                f"Learned from {rule.examples} examples and {rule.background} other pictures "
                f"({in_markdown(rule.method)}). On held-out pictures {rule.true_tags:.1%} of the examples get their "
                f"label, and {rule.false_tags:.1%} of the pictures without a label get one.",
            ]
    spec = manifest.preprocess
    lines += [
        "",
        "## Input",
        "",
        f"Images: {spec.described}, RGB; the graph applies mean and std. "
        + (
            "Output: probabilities in the order of `labels.json`; there is no text tower."
            if classifier is not None
            else "There is no text tower."
            if manifest.tokenizer is None
            else f"Text: `tokenizer/`, {manifest.tokenizer.context_length} ids: {manifest.tokenizer.described} "
            "(the padding id is part of the model)."
        ),
    ]
    return "\n".join(lines) + "\n"


def _licence(manifest: Manifest) -> list[str]:
    """Returns the lines on the permitted uses with their sources, and on the changes made. Empty for bundles of earlier
    versions."""
    entry = manifest.licence
    if entry is None:
        return []
    lines = ["", "| use | allowed | why | read in |", "|---|---|---|---|"]
    for use, answer in entry.uses().items():
        dated = f", {answer.dated}" if answer.dated else ""
        lines.append(
            f"| {use} | {answer.answer} | {in_markdown(answer.words)} | {in_markdown(answer.source or '')}{dated} |"
        )
    lines += ["", *([in_markdown(entry.sentence), ""] if entry.sentence else []), "Changes made to the weights:", ""]
    lines += [f"- {in_markdown(change)}" for change in changes_made(manifest)]
    files = ", ".join(in_code(file_entry.file) for file_entry in entry.files)
    return [*lines, "", f"With every copy: {files}. This is no legal advice."]


def _outcome(check: Check) -> str:
    if check.left_out and check.detail is not None:
        return f"{check.status}: {in_markdown(check.detail)}"
    return "FAILED" if check.status == "failed" else check.status


PREPROCESSOR_CONFIG = "preprocessor_config.json"
PIL_RESAMPLING = {"bilinear": 2, "bicubic": 3}


def write_preprocessor_config(folder: Path, spec: Preprocess) -> None:
    """Writes transformers' CLIPImageProcessor into a bundle's folder. It does not normalize: mean and std are in the
    graph."""
    square = {"height": spec.size, "width": spec.size}
    squashed = spec.resize == "squash"
    config = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": square if squashed else {"shortest_edge": spec.resized},
        "resample": PIL_RESAMPLING[spec.interpolation],
        "do_center_crop": not squashed,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": False,
    }
    (folder / PREPROCESSOR_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
