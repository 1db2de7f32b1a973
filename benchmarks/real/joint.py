"""A joint model.onnx in optimum with transformers: the zero-shot pipeline gives the probabilities of `classify`.

mobileclip-deploy export --target onnx --precision fp32 --joint -o out/
python benchmarks/real/joint.py out/nano-onnx-fp32 PICTURE LABEL...

Needs, in an environment of its own: optimum-onnx[onnxruntime], transformers<5 and torch. Prints the versions and the
probabilities as JSON, those of the joint file and those of the two towers by optimum's `ORTModelForCustomTasks`.
"""

import json
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Types of both packages differ from version to version.
optimum: Any = import_module("optimum.onnxruntime")
transformers: Any = import_module("transformers")

TEMPLATE = "a photo of a {}"


def by_pipeline(folder: Path, file: str, picture: Path, labels: list[str]) -> dict[str, float]:
    model = optimum.ORTModelForZeroShotImageClassification.from_pretrained(folder, subfolder="onnx", file_name=file)
    processor: Any = transformers.AutoProcessor.from_pretrained(folder)
    parts = {"tokenizer": processor.tokenizer, "image_processor": processor.image_processor}
    classify = transformers.pipeline("zero-shot-image-classification", model=model, **parts)
    answers = classify(Image.open(picture).convert("RGB"), candidate_labels=labels, hypothesis_template=TEMPLATE)
    return {answer["label"]: answer["score"] for answer in answers}


def by_towers(folder: Path, picture: Path, labels: list[str]) -> dict[str, float]:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    processor: Any = transformers.AutoProcessor.from_pretrained(folder)
    given = processor(
        text=[TEMPLATE.format(label) for label in labels],
        images=Image.open(picture).convert("RGB"),
        return_tensors="np",
        padding=True,
    )
    rows = []
    for tower, name in (("image", "pixel_values"), ("text", "input_ids")):
        entry = manifest["towers"][tower]
        model = optimum.ORTModelForCustomTasks.from_pretrained(
            folder, subfolder="onnx", file_name=entry["file"].removeprefix("onnx/")
        )
        answer = np.asarray(model(**{name: given[name]})[entry["output"]["name"]])
        rows.append(answer / np.linalg.norm(answer, axis=1, keepdims=True))
    logits = manifest["logit_scale"] * rows[0][0] @ rows[1].T
    shares = np.exp(logits - logits.max())
    return dict(zip(labels, (shares / shares.sum()).tolist(), strict=True))


def main() -> None:
    folder, picture, labels = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    joint = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["joint"]["file"].removeprefix("onnx/")
    answer: dict[str, Any] = {
        "versions": {name: version(name) for name in ("optimum-onnx", "transformers", "onnxruntime")},
        "joint": by_pipeline(folder, joint, picture, labels),
    }
    if (folder / "onnx" / joint.replace("model", "text_model")).exists():
        answer["towers"] = by_towers(folder, picture, labels)
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
