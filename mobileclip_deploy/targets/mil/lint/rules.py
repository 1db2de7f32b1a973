"""All rules: on the units that can run an op, on the values computed there, and on a package as a whole. Also `lint`,
which applies them to a program."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mobileclip_deploy.targets.mil.lint import sources
from mobileclip_deploy.targets.mil.lint.devices import DEFAULT_DEVICE, find_device
from mobileclip_deploy.targets.mil.lint.report import LintedOperation, LintReport, RuleText, findings_of
from mobileclip_deploy.targets.mil.lint.rule import DeviceOperation, Rules
from mobileclip_deploy.targets.mil.program import Program

RULES, PACKAGE_RULES = Rules[DeviceOperation](), Rules[Program]()

# Op types by public sources: ANEForge's catalog (sources.CATALOG), and those that rules name.
_GATHER = {"gather", "gather_along_axis", "gather_nd"}
_SORTS = {"topk", "argsort"}
_RECURRENT = {"gru", "lstm", "rnn"}
_CATALOG = json.loads(Path(__file__).with_name("op_types.json").read_text(encoding="utf-8"))
_NATIVE, _NO_HARDWARE = (frozenset(" ".join(_CATALOG[kind]).split()) for kind in ("native", "no_hardware"))

_MAX_RANK, _GOOD_RANK = 5, 4
_MAX_CHANNELS = 65536
_MAX_KERNEL_WIDTH = 13
_MAX_ARGMAX = 2048
_MATMUL_LIMIT = 32752.0
_FLOAT16_LIMIT = 65504.0
_NARROW = 8
_LARGE = 2**15
_MAX_BYTES = 2**30
_CRASH_BYTES = 600_000_000
"""The package of sources.CRASH has 667 MB. Nobody published a smaller one that crashed, nor a larger one that ran."""


@RULES.add("gather", "leaves", "A lookup by computed indices runs on the CPU", sources.COMPUTE_PLAN, sources.GATHER)
def _gather(on_device: DeviceOperation) -> str | None:
    if on_device.type not in _GATHER:
        return None
    table = on_device.argument("x")
    rows = f" from {list(table.shape)}" if table is not None else ""
    return f"{on_device.type}{rows}"


@RULES.add("no-hardware", "leaves", "No chip has hardware for this op", sources.CATALOG)
def _no_hardware(on_device: DeviceOperation) -> str | None:
    return on_device.type if on_device.type in _NO_HARDWARE else None


@RULES.add("recurrent", "leaves", "Recurrent layers are not supported", sources.RECURRENT)
def _recurrent(on_device: DeviceOperation) -> str | None:
    return on_device.type if on_device.type in _RECURRENT else None


@RULES.add("sort", "leaves", "topk and argsort are rejected on this chip", sources.CATALOG, sources.DETECTOR_PLAN)
def _sorts(on_device: DeviceOperation) -> str | None:
    return on_device.type if on_device.type in _SORTS and not on_device.device.sorts else None


@RULES.add("float32", "leaves", "The Neural Engine computes in float16 only", sources.TYPED_EXECUTION)
def _float32(on_device: DeviceOperation) -> str | None:
    wide = [out for out in on_device.operation.outputs if out.dtype in ("float32", "float64")]
    if not wide or on_device.type in ("cast", "dequantize") or on_device.type in _GATHER:
        return None
    return f"yields {wide[0].dtype}"


@RULES.add("integer", "leaves", "int32 tensors have no path through it", sources.CAPABILITIES, sources.DETECTOR_PLAN)
def _integer(on_device: DeviceOperation) -> str | None:
    if on_device.type == "cast" or on_device.type in _GATHER:
        return None
    integers = [argument for argument in on_device.sources if argument.dtype in ("int32", "int64", "uint32")]
    return f"takes {integers[0].dtype} {list(integers[0].shape)}" if integers else None


@RULES.add("rank-above-5", "leaves", "No tensor of rank above 5", sources.RANK)
def _rank_above_five(on_device: DeviceOperation) -> str | None:
    return f"rank {on_device.rank}" if on_device.rank > _MAX_RANK else None


@RULES.add("extent", "leaves", "A dimension is beyond the chip's limit", sources.CAPABILITIES, sources.DESIGN_RULES)
def _extent(on_device: DeviceOperation) -> str | None:
    for argument in (*on_device.sources, *on_device.operation.outputs):
        for axis, size in enumerate(argument.shape):
            channels = len(argument.shape) >= _GOOD_RANK and axis == 1
            if size is not None and size > (_MAX_CHANNELS if channels else on_device.device.max_extent):
                return f"{list(argument.shape)} on {on_device.device.name}"
    return None


@RULES.add("argmax", "leaves", "argmax over more than 2,048 elements", sources.DESIGN_RULES)
def _argmax(on_device: DeviceOperation) -> str | None:
    source, axis = on_device.argument("x"), on_device.integers("axis") or (-1,)
    if on_device.type not in ("reduce_argmax", "reduce_argmin") or source is None:
        return None
    size = source.shape[axis[0]]
    return f"over {size}" if size is not None and size > _MAX_ARGMAX else None


@RULES.add(
    "kernel-width",
    "leaves",
    "Kernels are at most 13 wide, dilation included",
    sources.DESIGN_RULES,
    sources.KERNEL_WARNING,
)
def _kernel_width(on_device: DeviceOperation) -> str | None:
    kernel: tuple[int, ...] = ()  # the spatial size of a window
    if on_device.type in ("conv", "conv_transpose"):
        weight = on_device.argument("weight")
        kernel = tuple(size or 0 for size in weight.shape[2:]) if weight is not None else ()
    elif on_device.type in ("avg_pool", "max_pool", "l2_pool"):
        kernel = on_device.integers("kernel_sizes")
    if not kernel:
        return None
    dilations = on_device.integers("dilations") or (1,) * len(kernel)
    width = (kernel[-1] - 1) * dilations[-1] + 1
    return f"kernel width {width}" if width > _MAX_KERNEL_WIDTH else None


@RULES.add("integer-cast", "risk", "Casts from and to int32 are rejected on some chips", sources.CATALOG)
def _integer_cast(on_device: DeviceOperation) -> str | None:
    if on_device.type != "cast":
        return None
    (source, *_), result = on_device.sources or (on_device.result,), on_device.result
    return f"{source.dtype} -> {result.dtype}" if "int32" in (source.dtype, result.dtype) else None


@RULES.add("rank-5", "risk", "It is designed for rank 4, channels first", sources.TRANSFORMERS)
def _rank_five(on_device: DeviceOperation) -> str | None:
    return f"rank {on_device.rank}" if on_device.rank == _GOOD_RANK + 1 else None


_FLEXIBLE = "With a flexible shape only the default shape runs there, if any"
_FLEXIBLE_SOURCES = (sources.FLEXIBLE_SHAPES, sources.FLEXIBLE_BATCH, sources.ENUMERATED)


@RULES.add("flexible-shape", "risk", _FLEXIBLE, *_FLEXIBLE_SOURCES)
def _flexible(on_device: DeviceOperation) -> str | None:
    for argument in (*on_device.operation.outputs, *on_device.sources):
        if None in argument.shape:
            return "[" + ", ".join("?" if dim is None else str(dim) for dim in argument.shape) + "]"
    return None


@RULES.add(
    "dilation", "risk", "Sources contradict each other on dilated convolution", sources.EXPERIMENTS, sources.CATALOG
)
def _dilation(on_device: DeviceOperation) -> str | None:
    dilations = on_device.integers("dilations")
    return f"dilations {list(dilations)}" if any(dilation != 1 for dilation in dilations) else None


@RULES.add("unknown-op", "risk", "No public source shows this op running there", sources.CATALOG)
def _unknown(on_device: DeviceOperation) -> str | None:
    listed = _NATIVE | _NO_HARDWARE | _GATHER | _SORTS | _RECURRENT
    return None if on_device.type in listed else on_device.type


@RULES.add("saturation", "risk", "Results of matrix products above 32,752 become infinite", sources.SATURATION)
def _saturation(on_device: DeviceOperation) -> str | None:
    largest = on_device.largest()
    if on_device.type not in ("matmul", "scaled_dot_product_attention", "einsum", "linear") or largest is None:
        return None
    return f"reaches {largest:,.0f}" if largest > _MATMUL_LIMIT else None


@RULES.add("overflow", "risk", "float16 ends at 65,504", sources.NUMERICS)
def _overflow(on_device: DeviceOperation) -> str | None:
    largest = on_device.largest()
    if largest is None or on_device.result.dtype != "float16":
        return None
    return f"reaches {largest:.3g}" if not largest <= _FLOAT16_LIMIT else None


@RULES.add("not-finite", "risk", "Infinite constants turn into NaN or clamp", sources.NUMERICS)
def _infinite(on_device: DeviceOperation) -> str | None:
    for name, bound in on_device.operation.inputs.items():
        if len(bound) == 1 and bound[0].constant and bound[0].dtype in ("float16", "float32"):
            value = on_device.operation.constant(name)
            if isinstance(value, np.ndarray) and value.size and not np.isfinite(value).all():
                return f"{name} holds {'NaN' if np.isnan(value).any() else 'infinity'}"
    return None


@RULES.add(
    "linear",
    "advice",
    "A 1x1 convolution on [B, C, 1, S] suits it better than linear on [B, S, C]",
    sources.TRANSFORMERS,
)
def _linear(on_device: DeviceOperation) -> str | None:
    return f"on {list(on_device.sources[0].shape)}" if on_device.type == "linear" and on_device.sources else None


@RULES.add(
    "batch-norm", "advice", "BatchNorm runs there, but folding it into its neighbour costs nothing", sources.CATALOG
)
def _batch_norm(on_device: DeviceOperation) -> str | None:
    return "not folded" if on_device.type == "batch_norm" else None


@RULES.add(
    "narrow-last-axis",
    "advice",
    "The last axis is padded to 64 bytes: a narrow one multiplies memory",
    sources.TRANSFORMERS,
)
def _narrow(on_device: DeviceOperation) -> str | None:
    shape = on_device.result.shape
    sizes = [size for size in shape if size is not None]
    if len(shape) < 3 or shape[-1] is None or shape[-1] > _NARROW or int(np.prod(sizes)) < _LARGE:
        return None
    return f"{list(shape)}"


@RULES.add(
    "int8-activations",
    "advice",
    "8-bit activations are faster from A17 Pro and M4 on only",
    sources.QUANTIZED_ACTIVATIONS,
)
def _activations(on_device: DeviceOperation) -> str | None:
    quantized = on_device.type in ("quantize", "dequantize") and bool(on_device.sources)
    return f"on {on_device.device.name}" if quantized and not on_device.device.int8_activations else None


@PACKAGE_RULES.add("flexible-input", "risk", _FLEXIBLE, *_FLEXIBLE_SOURCES)
def _flexible_input(program: Program) -> str | None:
    flexible = [port.name for port in program.inputs if port.shapes or port.ranges or None in port.shape]
    return f"input {', '.join(flexible)}" if flexible else None


@PACKAGE_RULES.add("size", "risk", "Large models do not run there at all", sources.MODEL_SIZE)
def _size(program: Program) -> str | None:
    size = sum(weight.bytes for weight in program.weights)
    return f"{size / 2**30:.2f} GiB of weights" if size > _MAX_BYTES else None


@PACKAGE_RULES.add("size-crash", "risk", "Above 600 MB the first prediction may end the app", sources.CRASH)
def _size_crash(program: Program) -> str | None:
    size = sum(weight.bytes for weight in program.weights)
    return f"{size / 1e6:.0f} MB of weights" if size >= _CRASH_BYTES else None


def lint(program: Program, device: str = DEFAULT_DEVICE, inputs: Mapping[str, Any] | None = None) -> LintReport:
    """Applies every rule to every operation.

    Args:
        program: as loaded; `evaluate=False` suffices without `inputs`.
        device: a chip of `DEVICES`; the strictest when absent.
        inputs: as for calling the program. With them it is evaluated once, and the rules on ranges of values apply too.

    Raises:
        UsageError: no such device.
        InvalidInput: the program cannot be evaluated on the inputs.
    """
    chip = find_device(device)
    magnitudes = measure(program, inputs) if inputs is not None else {}
    checked = (
        (operation, findings_of(RULES, DeviceOperation(operation, chip, magnitudes)))
        for operation in program.operations
    )
    operations = [
        LintedOperation.of(operation.name, operation.type, operation.weight_bytes, findings)
        for operation, findings in checked
    ]
    rules = [*map(RuleText.of, PACKAGE_RULES), *map(RuleText.of, RULES)]
    package, where = findings_of(PACKAGE_RULES, program), (program.function, chip.name)
    return LintReport.of(program.path.name, where, operations, rules, package, evaluated=inputs is not None)


def measure(program: Program, inputs: Mapping[str, Any]) -> dict[str, float]:
    """Returns the largest absolute value of each floating-point result, computed in float32 to show overflows."""
    magnitudes = {}
    for step in program.trace(inputs, "float32"):
        for name, value in step.values.items():
            array = np.asarray(value)
            if array.dtype.kind == "f" and array.size:
                magnitudes[name] = float(np.abs(array).max())
    return magnitudes
