"""Exports a checkpoint and prints every check that the bundle passed.

python examples/export_and_verify.py [CHECKPOINT]      # without one: nano, the built-in checkpoint
"""

import sys

import mobileclip_deploy as mcd


def main(checkpoint: str | None = None, output: str = "out", target: str = "onnx", precision: str = "fp16") -> None:
    """Writes `<output>/<variant>-<target>-<precision>` and compares it with the checkpoint once more."""
    model = mcd.load_model(checkpoint=checkpoint)
    bundle = mcd.export(model, target=target, precision=precision, output=output, force=True)
    report = mcd.verify(bundle, checkpoint=checkpoint)
    for check in report.checks:
        print(f"{check.status:8} {check.tower:6} {check.step:10} {check.describe()}")
    print(f"{bundle.path}: {'passed' if report.passed else 'FAILED'}")
    if not report.passed:
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
