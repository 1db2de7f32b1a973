"""The ONNX target: file names, input and output, optional files. `graph` exports the graph, `runner` runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import NotRun, UsageError
from mobileclip_deploy.targets.artifact import Artifact, Attached
from mobileclip_deploy.targets.capabilities import Capabilities, Formats, Packages, Places, Storing
from mobileclip_deploy.targets.onnx.rules import RULES
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.target import Target
from mobileclip_deploy.targets.values import Form, Place, Ports, Precisions, RuntimePlace, TensorInfo, TowerJob

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mobileclip_deploy.artifacts.layouts import Layout
    from mobileclip_deploy.network.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.foreign_file import ForeignFile

RUNTIME = "onnxruntime"
# Spinning threads would occupy the core that the next candidate needs.
CPU = RuntimePlace(
    RUNTIME, "cpu", options=(("session.intra_op.allow_spinning", "0"), ("session.inter_op.allow_spinning", "0"))
)


NEWEST = 20
ALSO, ONLY = "also", "only"
LOWEST = {"fp32": 15, "fp16": 15, "w8": 15}
"""Lowest opset of the precisions that are written for older readers; others need the newest."""


@dataclass(frozen=True)
class OnnxOptions(TargetOptions):
    """Options of the ONNX target. `ort` also writes each file as .ort, the only format of ONNX Runtime's small builds.
    `opset`: of the files, for readers of older ones. `joint`: "also" writes a file of both towers, "only" in place of
    theirs."""

    ort: bool = option(
        "--ort", "Also write each file as .ort, for ONNX Runtime's minimal builds.", default=False, attaches=".ort"
    )
    opset: str = option(
        "--opset",
        f"With fp32, fp16 and w8: Write files of opset N, {min(LOWEST.values())} to {NEWEST}. [default: {NEWEST}]",
        default=str(NEWEST),
        metavar="N",
    )
    joint: str | None = option(
        f"--joint={ALSO}",
        "Also write both towers as one file, model.onnx, which pipelines for zero-shot classification load; only: in "
        "place of the towers' files.",
        metavar="[only]",
    )


class OnnxTarget(Target):
    name = "onnx"
    title = "ONNX"
    capabilities = Capabilities(
        packages=Packages(
            required=("onnxruntime",),
            extra="onnx-run",
            converters=("onnx", "onnxscript"),
            converter_extra="onnx",
            proven={"onnx": "1.23.2", "onnxruntime": "1.32.0", "onnxscript": "0.7.2"},
            runtime_package=RUNTIME,
            runtime_modules=(RUNTIME,),
        ),
        formats=Formats(
            suffixes=(".onnx",),
            foreign_suffix=".onnx",
            order=1,
            not_searched={"joint": "`precision='smallest'` searches each tower alone; leave `joint` out"},
        ),
        ports=Ports(
            input_types={"image": ("float32",), "text": ("int64", "int32")},
            why_no_pictures=None,
            why_no_contexts=None,
            pads_inside=True,
            undoes_applied=True,
        ),
        storing=Storing(
            precisions=("fp32", "fp16", "w8", "w8a8", "w4"),
            tables=("w8", "w4"),
            mixes=True,
            learns_rounding=True,
            absorbs_layer_scales=True,
            rules=RULES,
        ),
        places=Places(
            by_device={
                "host": (CPU,),
                # Providers that a build of ONNX Runtime for phones may have besides the CPU; PyPI's have neither.
                "android": (
                    CPU,
                    RuntimePlace(RUNTIME, "xnnpack", options=CPU.options),
                    RuntimePlace(RUNTIME, "webgpu"),
                ),
                "browser": (RuntimePlace("onnxruntime-web", "wasm"), RuntimePlace("onnxruntime-web", "webgpu")),
            }
        ),
    )
    Options = OnnxOptions
    options: OnnxOptions

    def settled(self, precisions: Precisions) -> OnnxTarget:
        """Returns the target itself; refuses an opset that is unknown or too low for a precision, and a joint file that
        no library has a name for."""
        opset, joint = self.options.opset, self.options.joint
        if joint not in (None, ALSO, ONLY):
            raise UsageError(f"`joint` {joint}: it is {ALSO} or {ONLY}")
        if joint is not None and (len(precisions) != 2 or len(set(precisions.values())) != 1):
            raise UsageError("`joint` needs both towers at one precision; leave `joint` out")
        if not (opset.isascii() and opset.isdigit() and min(LOWEST.values()) <= int(opset) <= NEWEST):
            raise UsageError(f"`opset` {opset}: it is {min(LOWEST.values())} to {NEWEST}")
        for precision in precisions.values():
            if int(opset) < (lowest := LOWEST.get(precision, NEWEST)):
                raise UsageError(f"opset {opset} has no {precision}, which needs {lowest}; {', '.join(LOWEST)} have it")
        return self

    def require_form(self, form: Form) -> None:
        super().require_form(form)
        if form.pictures and self.options.opset != str(NEWEST):
            raise UsageError(f"pictures of any size need opset {NEWEST}; leave `opset` out")
        if self.options.joint and (form.pictures or form.layout or form.contexts):
            raise UsageError("`joint` has no `layout`, `contexts` or `input='bytes'`; leave `joint` out")

    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        return _own().file(variant, artifact, precision)

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        source = _own().artifact(tower).input.name
        result = _own().artifact("classifier" if labels else tower).output.name
        return Ports(source, source, result, result, ids="int64", batch=0).of(variant, tower, labels)

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.onnx.graph import write_graph

        if self.options.joint and not job.form.pads_inside and job.tower == "text":
            raise UsageError(f"`joint` needs texts that end at a token, which {job.variant.name} has not; leave it out")
        path.parent.mkdir(parents=True, exist_ok=True)
        layout, opset = job.form.layout or _own(), int(self.options.opset)
        any_length = job.tower in layout.artifacts and layout.artifact(job.tower).input.any_length
        write_graph(job, path, self.ports(job.variant, job.tower, job.form), any_length=any_length, opset=opset)
        return ()

    def join(self, folder: Path, files: Mapping[TowerName, str], scale: float) -> Path | None:
        from mobileclip_deploy.targets.onnx.joint import write_joint

        if self.options.joint is None:
            return None
        path = folder / _joint(files)
        write_joint({tower: folder / file for tower, file in files.items()}, path, scale)
        return path

    def place(self, folder: Path, variant: Variant, files: Mapping[TowerName, str]) -> dict[TowerName, Place]:
        if self.options.joint != ONLY:
            return super().place(folder, variant, files)
        for file in files.values():
            (folder / file).unlink()
        return {tower: Place(_joint(files), tower) for tower in files}

    def joint_answers(
        self, path: Path, images: npt.NDArray[np.generic], ids: npt.NDArray[np.generic]
    ) -> tuple[dict[str, npt.NDArray[np.float32]], str]:
        from mobileclip_deploy.targets.onnx.joint import joint_answers

        return joint_answers(path, images, ids)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        if options.get("joint") == ONLY and device != "host":
            raise NotRun("a joint file cannot be timed tower by tower there; export with `joint='also'`")
        return super().places(device, options)

    def open_attached(self, kind: str, path: Path) -> Attached | None:
        from mobileclip_deploy.targets.onnx.ort_file import OrtFile

        return OrtFile(path) if kind == "ort" else None

    def open(self, path: Path, function: str | None = None) -> Artifact:
        if function is None:
            from mobileclip_deploy.targets.onnx.opening import OnnxArtifact

            return OnnxArtifact(path)
        from mobileclip_deploy.targets.onnx.joint import JointTower

        return JointTower(path, function)

    def open_foreign(self, path: Path) -> ForeignFile:
        from mobileclip_deploy.targets.onnx.foreign import open_foreign

        return open_foreign(path)


def _joint(files: Mapping[TowerName, str]) -> str:
    """Returns the path of the joint file, next to the towers' files and with their suffix."""
    return files["text"].replace("text_model", "model")


def _own() -> Layout:
    """Returns the layout that is used if none is chosen."""
    from mobileclip_deploy.artifacts.layouts import default_layout

    layout = default_layout(OnnxTarget.name)
    assert layout is not None
    return layout
