"""Sorts a folder of images by what they show: a line an image, the most probable label first.

python examples/classify_folder.py out/nano-onnx-fp16 models/nano/evaluation/images pizza,rocket,tree | sort -k 2
"""

import sys

import mobileclip_deploy as mcd


def main(bundle: str, folder: str, labels: str) -> None:
    """Prints name, label and probability of every image, tabs between; images that cannot be used go to stderr."""
    results = mcd.classify(bundle, folder, labels, top=1, skip_bad=True)
    for result in results:
        print(result.image.name, result.label, f"{result.probabilities[result.label]:.2f}", sep="\t")
    for text in results.skipped:
        print(text, file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
