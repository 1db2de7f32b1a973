"""Sort a folder of images by what they show: a line an image, the most probable label first.

python examples/classify_folder.py out/nano-onnx-fp16 models/nano/evaluation/images pizza,rocket,tree | sort -k 2
"""

import sys
from pathlib import Path

import mobileclip_deploy as mcd


def main(bundle: str, folder: str, labels: str) -> None:
    """Print name, label and probability of every image, tabs between."""
    images = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    for result in mcd.classify(bundle, images, labels.split(",")):
        label, probability = max(result.probabilities.items(), key=lambda entry: entry[1])
        print(result.image.name, label, f"{probability:.2f}", sep="\t")


if __name__ == "__main__":
    main(*sys.argv[1:])
