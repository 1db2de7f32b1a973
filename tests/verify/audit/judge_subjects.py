"""The verdict of `audit` on each file of make_subjects.py, and a table of kind and fault.

    python tests/verify/audit/judge_subjects.py OUT [--kinds onnx,litert] [--again]

runs `mobileclip-deploy audit FILE --json` through the entry of the command, in this process, and keeps verdicts in
OUT/verdicts.json, so that an interrupted run goes on. A fault is `named` (the right cause), `differs` or `missed`;
a clean file is `same`, or `refused`.
"""

import argparse
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from command_line import run
from verify.audit.faults import IMAGE_ROWS, TEXT_ROWS

CAUSES = {
    "branch: scale": "branch:scale-branch",
    "branch: skip": "branch:skip-branch",
    "branch: skip of a later block": "branch:skip-branch",
    "branch: small kernel": "branch:small-kernel",
    "branch: mixer's norm": "branch:mixer-norm",
    "BatchNorm in training mode": "batch-norm-training",
    "BatchNorm epsilon 1e-3": "batch-norm-epsilon",
    "LayerNorm epsilon 1e-3": "layer-norm-epsilon",
    "GELU tanh": "gelu-tanh",
    "QuickGELU": "quick-gelu",
    "ReLU": "relu",
    "projection transposed": "projection-transposed",
    "layer scale dropped": "layer-scale",
    "attention not scaled": "attention-scale",
    "one head": "one-head",
    "rows and columns exchanged": "rows-columns",
    "squeeze-excite dropped": "squeeze-excite",
    "CLIP's mean baked in": "normalised-inside",
    "ImageNet's mean baked in": "normalised-inside",
    "divided by 255 twice": "range",
    "positional encoding left out": "branch:position",
    "causal mask where none is": "mask-causal",
    "pooled at the last token": "pooling-last",
    "pooled at the first token": "pooling-first",
    "pooled before the end token": "pooling-before-end",
    "positions left out": "positions-missing",
    "positions cut after 32": "positions-cut",
    "last LayerNorm left out": "final-norm-missing",
    "batch of one baked in": "batch-of-one",
    "logit scale not exponentiated": "logit-scale",
    "logit scale doubled": "logit-scale",
    "logits after softmax": "logits",
    "logits of raw embeddings": "logits",
    "logits_per_image and logits_per_text exchanged": "logits-transposed",
    "names of image_embeds and text_embeds exchanged": "output-name",
    "text_embeds of the image": "output-name",
    **dict.fromkeys({*IMAGE_ROWS, *TEXT_ROWS} - {"batch of one baked in"}, "batch-rows"),
}
"""Fault -> identifier of its cause. Others may be named in any words that share one with the fault's name."""
NO_FAULT = {("executorch-xnnpack", "text: GELU tanh"), ("executorch-xnnpack", "image: GELU tanh")}
"""XNNPACK computes the exact GELU for both forms: such a file is the checkpoint's model."""
FORMS = {
    "0..1": "0 ... 1",
    "0..255": "0 ... 255",
    "-1..1": "-1 ... 1",
    "clip": "CLIP's mean and std",
    "imagenet": "ImageNet's mean and std",
}
LENGTHS = {"raw": ("raw", 1), "unit": ("normalised", 1), "scaled": ("raw", 100)}
"""Length of an output and its factor."""


def is_named(fault: str, tower: dict[str, Any]) -> bool:
    """Whether the cause of a tower is the fault, or its verdict is that of other weights."""
    cause, text = tower.get("cause") or "", tower.get("cause_text") or ""
    name = fault.split(": ", 1)[1]
    if name in ("other weights", "weights trained on"):
        return bool(tower["verdict"] == "other weights")
    if name in CAUSES:
        return bool(cause == CAUSES[name])
    return any(word in text for word in re.findall(r"[a-z]{5,}", name))


def convention_of(subject: dict[str, Any], tower: dict[str, Any]) -> bool:
    """Whether the convention that was found is the file's."""
    how, forms = subject["convention"], [tower["input"]["form"], *tower["input"].get("also", ())]
    length, factor = LENGTHS[how["output"]]
    if tower["output"]["length"] != length or abs(tower["output"]["factor"] / factor - 1) > 0.02:
        return False
    if tower["tower"] == "text":
        return any(how["ids"] in form or "int64" in form for form in forms)
    wanted = (how["axes"], how["colours"], FORMS[how["range"]])
    return any(all(f"{word}" in form for word in wanted) for form in forms)


def cpu_seconds() -> float:
    """CPU time of this process and of the children that ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def verdict_on(folder: Path, subject: dict[str, Any]) -> dict[str, Any]:
    """What the command prints, or its error."""
    file = folder / (subject["image"] or subject["text"])
    began = cpu_seconds()
    weights = ["--checkpoint", folder / subject["checkpoint"]] if "checkpoint" in subject else []
    outcome = run("audit", file, *weights, "--json", "--quiet")
    if outcome.code >= 128:
        sys.exit(outcome.code)  # a signal is no verdict
    try:
        report = json.loads(outcome.stdout)
    except ValueError:
        report = {"error": outcome.stderr.strip().splitlines()[-1:]}
    return {"code": outcome.code, "seconds": round(cpu_seconds() - began, 1), "report": report}


def judged(subject: dict[str, Any], answer: dict[str, Any]) -> tuple[str, bool | None]:
    """The cell of the table, and whether the convention is right."""
    report = answer["report"]
    if "towers" not in report:
        return f"error {answer['code']}", None
    fault = None if (subject["kind"], subject["fault"]) in NO_FAULT else subject["fault"]
    towers = report["towers"]
    right = all(convention_of(subject, tower) for tower in towers)
    if fault is None:
        return ("same" if report["verdict"] == "same" else "refused"), right
    if report["verdict"] == "same":
        return "missed", None
    wrong = [tower for tower in towers if tower["tower"] == fault.split(": ", 1)[0]] or towers
    return ("named" if is_named(fault, wrong[0]) else "differs"), None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kinds", help="of these kinds only")
    parser.add_argument("--again", action="store_true", help="judge files again that have a verdict")
    chosen = parser.parse_args()
    subjects = json.loads((chosen.out / "subjects.json").read_text())
    if chosen.kinds:
        subjects = [subject for subject in subjects if subject["kind"] in chosen.kinds.split(",")]
    store = chosen.out / "verdicts.json"
    answers = json.loads(store.read_text()) if store.exists() else {}
    table: dict[str, Counter[str]] = {}
    conventions: Counter[bool | None] = Counter()
    for subject in subjects:
        file = subject["image"] or subject["text"]
        if chosen.again or file not in answers:
            answers[file] = verdict_on(chosen.out, subject)
            store.write_text(json.dumps(answers, indent=1) + "\n")
        cell, right = judged(subject, answers[file])
        table.setdefault(subject["kind"], Counter())[cell] += 1
        conventions[right] += right is not None
        said = answers[file]["report"].get("sentence") or answers[file]["report"].get("error")
        if cell not in ("same", "named") or right is False:
            note = " CONVENTION" if right is False else ""
            print(f"{cell}{note}: {file} {subject['fault'] or subject['convention']}: {said}", flush=True)
    columns = sorted({cell for row in table.values() for cell in row})
    print(f"\n{'kind':20}" + "".join(f"{cell:>10}" for cell in columns))
    for kind, row in table.items():
        print(f"{kind:20}" + "".join(f"{row[cell] or '':>10}" for cell in columns))
    costs = sorted(answers[subject["image"] or subject["text"]]["seconds"] for subject in subjects)
    if costs:
        print(f"CPU seconds a file: median {costs[len(costs) // 2]}, most {costs[-1]}")
    print(f"conventions named: {conventions[True]} of {conventions[True] + conventions[False]}")


if __name__ == "__main__":
    main()
