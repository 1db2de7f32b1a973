"""What the suites measure: bundles of nano and of deterministic weights, and what others' exporters make of the same.

Apple's trained weights are nobody's to redistribute and not needed for times: the weights follow from a seed, as in
tests/golden/README.md. Everything is built once below a work folder, and found there the next time.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import ROOT

if TYPE_CHECKING:
    from mobileclip_deploy.network.model.variants import TowerName, Variant

PROGRAM = (sys.executable, "-c", "from mobileclip_deploy.cli import main; main()")
SEED = 7
OPEN_CLIP = {"mobileclip2_s0": "MobileCLIP2-S0"}
MIXES = {
    ("onnx", None): ("fp32", "fp16", "w8", "w8a8", "w4", "image=w8,text=w4"),
    ("coreml", None): (
        *("fp32", "fp16", "w8", "w8a8", "w6p", "w4p"),
        *("image=w8,text=w6p", "image=w8a8,text=w8", "image=w4p,text=w6p"),
    ),
    ("coreml", "iOS18"): ("w6p", "w4p", "w4", "w4p-p50", "image=w6p,text=w4p", "image=w6p,text=w4"),
    ("coreai", None): ("fp32", "fp16", "w8", "w6p", "w4p", "w4"),
    ("litert", None): ("fp32", "fp16", "w8", "w8a8", "w4", "image=w8,text=w4", "image=w8a8,text=w8"),
    ("executorch", None): (
        *("fp32", "w8a8", "image=w8a8,text=w8", "image=w8a8,text=w4"),
        *("image=w8a8,text=w8-table-w6p", "image=w8a8,text=w4-table-w6p"),
    ),
    ("qnn", None): ("fp16", "w8a16", "w8a8"),
    ("mlx", None): ("fp32", "fp16", "w8", "w4"),
}
CHIP = "sm8650"
"""Whose binaries stand for those of all of Qualcomm's chips: each is compiled and emulated alone."""
NANO_PRECISIONS = [(target, name, system) for (target, system), names in MIXES.items() for name in names]
"""Every precision of every target, and the mixes of towers that are worth having: target, precision, oldest system."""
ROUNDED = {
    ("coreml", None): ("image=w4p,text=w6p",),
    ("coreml", "iOS18"): ("w4p",),
    ("coreai", None): ("w4p",),
    ("onnx", None): ("w4",),
    ("litert", None): ("w4",),
    ("executorch", None): ("image=w8a8,text=w4",),
}
LEARNED = [
    (target, name, system, rounding)
    for (target, system), names in ROUNDED.items()
    for name in names
    for rounding in ("gptq", "tuned")
]
LEARNED += [(target, "w8", None, "gptq") for target in ("coreai", "onnx", "litert")]
LEARNED += [("qnn", "w8a16", None, "gptq")]
"""What is worth having with learned rounding: the same, and how."""
CALIBRATION = ROOT / "models" / "nano" / "calibration"
SIGLIP = "siglip_b16_224"
"""SigLIP's ViT-B/16 at 224 pixels, the paper's peer of S2. Only its times are needed: it has no card or tokenizer."""
UNDECIDED = 4  # the exit code of an export whose accuracy so few pictures do not tell from its gate


@dataclass(frozen=True)
class Subjects:
    """Builds what is asked for and missing below `folder`."""

    folder: Path

    def checkpoint(self, variant: str) -> Path:
        """The image tower of a variant, filled from the seed; nano's own trained checkpoint."""
        from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint

        if variant == "nano":
            return builtin_checkpoint()
        path = self.folder / f"{variant}.safetensors"
        if not path.exists():
            from mobileclip_deploy.network.checkpoints.writing import save_tensors

            save_tensors(path, image_weights(variant), {})
        return path

    def bundle(
        self,
        variant: str,
        target: str,
        precision: str = "fp32",
        system: str | None = None,
        rounding: str = "nearest",
        checked: bool = True,
    ) -> Path:
        """An exported bundle: the image tower alone, except of nano. `system`: Core ML's deployment target. `checked`:
        nano's accuracy is measured on the way; else it is its image tower alone, too."""
        label = precision.replace("=", "-").replace(",", "-")
        folder = self.folder / (system or "") / (rounding if rounding != "nearest" else "")
        path = folder / f"{variant}-{target}-{label}"
        if not path.exists():
            command = [*PROGRAM, "export", "--target", target, "--precision", precision, "-o", str(folder)]
            command += ["--deployment-target", system] if system else []
            command += ["--chip", CHIP] if target == "qnn" else []
            command += ["--rounding", rounding, "--calibration", str(CALIBRATION)] if rounding != "nearest" else []
            if variant == "nano" and not checked:
                command += ["--no-verify", "--tower", "image"]
            elif variant == "nano":  # whose accuracy is measured on the way
                command.append("--allow-failing")
            else:
                command += [
                    "--no-verify",
                    "--variant",
                    variant,
                    "--checkpoint",
                    str(self.checkpoint(variant)),
                    "--tower",
                    "image",
                ]
            done = subprocess.run(command, stdout=subprocess.DEVNULL)
            if done.returncode not in (0, UNDECIDED):
                raise subprocess.CalledProcessError(done.returncode, command)
        return path

    def pair(self, variant: str, target: str) -> Path:
        """Returns a bundle with both towers of a variant in fp32, with weights from the seed."""
        folder = self.folder / "pairs"
        path = folder / f"{variant}-{target}-fp32"
        if not path.exists():
            from mobileclip_deploy.network.checkpoints.writing import save_tensors

            folder.mkdir(parents=True, exist_ok=True)
            checkpoint = folder / f"{variant}.safetensors"
            save_tensors(checkpoint, tower_weights(variant, ("image", "text")), {})
            command = [*PROGRAM, "export", "--target", target, "--precision", "fp32", "-o", str(folder), "--no-verify"]
            command += ["--variant", variant, "--checkpoint", str(checkpoint)]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            checkpoint.unlink()
        return path

    def siglip(self, target: str) -> tuple[Path, ...]:
        """Returns SigLIP's two towers, folded and written by a target as those of the bundles are."""
        from mobileclip_deploy.network.model.variants import TOWERS
        from mobileclip_deploy.targets import get_target

        writer = get_target(target)
        suffix = writer.capabilities.formats.foreign_suffix
        files: dict[TowerName, Path] = {tower: self.folder / "pairs" / f"{SIGLIP}_{tower}{suffix}" for tower in TOWERS}
        if not all(path.exists() for path in files.values()):
            from writing import NOWHERE

            from mobileclip_deploy.network.checkpoints.source import Source
            from mobileclip_deploy.network.folding import fold
            from mobileclip_deploy.targets.jobs import tower_job

            model = siglip_model()
            fold(model)
            files[TOWERS[0]].parent.mkdir(parents=True, exist_ok=True)
            for tower, path in files.items():
                job = tower_job(Source(model, NOWHERE), tower, "fp32")
                # Converters look at samples even in fp32; without a tokenizer the example is the sample.
                writer.write(replace(job, calibration=job.example.numpy()), path)
        return tuple(files.values())

    def plain_onnx(self, variant: str) -> Path:
        """open_clip's own network with the same weights, unfolded, by torch.onnx.export as it is."""
        path = self.folder / f"open_clip_{variant}_plain.onnx"
        if not path.exists():
            import torch

            from mobileclip_deploy.targets.quiet import quiet

            visual, example = open_clip_image_tower(variant)
            with quiet():
                torch.onnx.export(visual, (example,), path, dynamo=True, external_data=False)
        return path

    def stock_pte(self, variant: str) -> Path:
        """The same network by ExecuTorch's documented XNNPACK recipe."""
        path = self.folder / f"open_clip_{variant}_stock.pte"
        if not path.exists():
            import torch

            from mobileclip_deploy.targets.quiet import quiet

            visual, example = open_clip_image_tower(variant)
            with quiet():
                from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
                from executorch.exir import to_edge_transform_and_lower

                program = torch.export.export(visual, (example,))
                edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
                path.write_bytes(edge.to_executorch().buffer)
        return path

    def plain_tflite(self, variant: str) -> Path:
        """The same network by LiteRT's converter as it is."""
        path = self.folder / f"open_clip_{variant}_plain.tflite"
        if not path.exists():
            from mobileclip_deploy.targets.quiet import quiet

            visual, example = open_clip_image_tower(variant)
            with quiet():
                import litert_torch

                litert_torch.convert(visual, (example,)).export(str(path))
        return path


def image_weights(variant: str) -> dict[str, Any]:
    """The tensors of a variant's image tower in its first layout, from the seed."""
    return tower_weights(variant, ("image",))


def tower_weights(variant: str, towers: Sequence[TowerName]) -> dict[str, Any]:
    """Returns the tensors of a variant's towers in its first layout, from the seed."""
    from golden_checkpoints import fill

    from mobileclip_deploy.network.checkpoints.fitting import CandidateIdentity
    from mobileclip_deploy.network.model.variants import load_variant

    layouts = list(load_variant(variant).layouts)
    layout = "open_clip" if "open_clip" in layouts else layouts[0]
    tensors = CandidateIdentity(load_variant(variant), layout, tuple(towers)).expected.values()
    return {tensor.key: fill(SEED, tensor.key, tensor.shape) for tensor in tensors}


def siglip_variant() -> Variant:
    """Returns SigLIP's ViT-B/16: SigLIP2's card with the size, vocabulary and activation of the first SigLIP.

    The values are those of open_clip's model_configs/ViT-B-16-SigLIP.json.
    """
    from mobileclip_deploy.network.model.variants import Variant, load_variant

    fields = load_variant("siglip2_b16_256").model_dump(mode="json", exclude={"published", "sources"})
    fields |= {"name": SIGLIP, "title": "SigLIP ViT-B/16", "languages": "English"}
    fields["preprocess"]["size"] = 224
    fields["text"]["activation"] = "gelu"
    fields["tokenizer"]["vocab_size"] = 32_000
    return Variant.model_validate(fields)


def siglip_model() -> Any:
    """Returns SigLIP's network with weights from the seed."""
    import torch
    from golden_checkpoints import fill

    from mobileclip_deploy.network.model.architecture import MobileCLIP

    with torch.device("meta"):
        model = MobileCLIP(siglip_variant()).eval().requires_grad_(False)
    weights = {key: fill(SEED, key, tuple(value.shape)) for key, value in model.state_dict().items()}
    model.load_state_dict(weights, assign=True)
    return model


def open_clip_image_tower(variant: str) -> tuple[Any, Any]:
    """open_clip's image tower with the same weights, and an input to trace it with."""
    import open_clip
    import torch

    torch.set_grad_enabled(False)
    model = open_clip.create_model(OPEN_CLIP[variant])
    weights = image_weights(variant)
    left = model.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys, left.unexpected_keys
    assert not [key for key in left.missing_keys if key.startswith("visual.")], left.missing_keys
    size = model.visual.image_size
    side = size[0] if isinstance(size, tuple) else size
    return model.visual.eval(), torch.full((1, 3, side, side), 0.5)


if __name__ == "__main__":  # builds everything: python benchmarks/subjects.py FOLDER
    subjects = Subjects(Path(sys.argv[1]))
    subjects.folder.mkdir(parents=True, exist_ok=True)
    for name in ("mobileclip2_s0", "mobileclip2_s2", "mobileclip2_b", "clip_vit_b16"):
        print(subjects.bundle(name, "onnx"), flush=True)
    for name in ("executorch", "litert"):
        print(subjects.bundle("mobileclip2_s0", name), flush=True)
    print(subjects.plain_onnx("mobileclip2_s0"), flush=True)
    print(subjects.stock_pte("mobileclip2_s0"), flush=True)
    print(subjects.plain_tflite("mobileclip2_s0"), flush=True)
