"""A gate of your own next to those of `verify`: no class that matters may lose, and the download has a budget.

python examples/gate_in_ci.py out/nano-onnx-w8 --budget-mb 8 --class mammals      # exit code 1 stops CI
"""

import argparse
import sys

import mobileclip_deploy as mcd


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 if the bundle is within its budget and every named class is found as often as by the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--checkpoint")
    parser.add_argument("--dataset")
    parser.add_argument("--budget-mb", type=float, default=10)
    parser.add_argument("--class", action="append", default=[], dest="classes")
    given = parser.parse_args(arguments)
    bundle = mcd.Bundle.open(given.bundle)
    size = sum(tower.bytes for tower in bundle.manifest.towers.values()) / 1e6
    problems = [f"{size:.1f} MB, budget {given.budget_mb:g}"] if size > given.budget_mb else []
    before = mcd.evaluate(mcd.load_model(checkpoint=given.checkpoint), dataset=given.dataset, task="classification")
    after = mcd.evaluate(bundle, dataset=given.dataset, task="classification")
    for old, new in zip(before.per_class, after.per_class, strict=True):
        if new.name in given.classes and (new.top1 or 0) < (old.top1 or 0):
            problems.append(f"{new.name}: top-1 {new.top1:.0f}%, the checkpoint {old.top1:.0f}%")
    print("\n".join(problems) or f"{bundle.path.name}: {size:.1f} MB, no class lost")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
