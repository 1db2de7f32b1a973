"""Rules on where an op can run at all: its type, its element types and its shape."""

from __future__ import annotations

from mobileclip_deploy.mil.lint import sources
from mobileclip_deploy.mil.lint.op_types import GATHER, NATIVE, NO_HARDWARE, RECURRENT, SORTS
from mobileclip_deploy.mil.lint.rule import DeviceOperation, Rule

__all__ = ["PLACEMENT"]

_MAX_RANK, _GOOD_RANK = 5, 4
_MAX_CHANNELS = 65536
_MAX_KERNEL_WIDTH = 13
_MAX_ARGMAX = 2048


def _gather(on_device: DeviceOperation) -> str | None:
    if on_device.type not in GATHER:
        return None
    table = on_device.argument("x")
    rows = f" from {list(table.shape)}" if table is not None else ""
    return f"{on_device.type}{rows}"


def _sorts(on_device: DeviceOperation) -> str | None:
    return on_device.type if on_device.type in SORTS and not on_device.device.sorts else None


def _recurrent(on_device: DeviceOperation) -> str | None:
    return on_device.type if on_device.type in RECURRENT else None


def _no_hardware(on_device: DeviceOperation) -> str | None:
    return on_device.type if on_device.type in NO_HARDWARE else None


def _unknown(on_device: DeviceOperation) -> str | None:
    known = NATIVE | NO_HARDWARE | GATHER | SORTS | RECURRENT
    return None if on_device.type in known else on_device.type


def _float32(on_device: DeviceOperation) -> str | None:
    wide = [out for out in on_device.operation.outputs if out.dtype in ("float32", "float64")]
    if not wide or on_device.type in ("cast", "dequantize") or on_device.type in GATHER:
        return None
    return f"yields {wide[0].dtype}"


def _integer(on_device: DeviceOperation) -> str | None:
    if on_device.type == "cast" or on_device.type in GATHER:
        return None
    integers = [argument for argument in on_device.sources if argument.dtype in ("int32", "int64", "uint32")]
    return f"takes {integers[0].dtype} {list(integers[0].shape)}" if integers else None


def _integer_cast(on_device: DeviceOperation) -> str | None:
    if on_device.type != "cast":
        return None
    (source, *_), result = on_device.sources or (on_device.result,), on_device.result
    return f"{source.dtype} -> {result.dtype}" if "int32" in (source.dtype, result.dtype) else None


def _rank_above_five(on_device: DeviceOperation) -> str | None:
    ranks = [len(argument.shape) for argument in (*on_device.sources, *on_device.operation.outputs)]
    return f"rank {max(ranks)}" if max(ranks) > _MAX_RANK else None


def _rank_five(on_device: DeviceOperation) -> str | None:
    ranks = [len(argument.shape) for argument in (*on_device.sources, *on_device.operation.outputs)]
    return f"rank {max(ranks)}" if max(ranks) == _GOOD_RANK + 1 else None


def _flexible(on_device: DeviceOperation) -> str | None:
    for argument in (*on_device.operation.outputs, *on_device.sources):
        if None in argument.shape:
            return "[" + ", ".join("?" if dim is None else str(dim) for dim in argument.shape) + "]"
    return None


def _extent(on_device: DeviceOperation) -> str | None:
    for argument in (*on_device.sources, *on_device.operation.outputs):
        for axis, size in enumerate(argument.shape):
            channels = len(argument.shape) >= _GOOD_RANK and axis == 1
            if size is not None and size > (_MAX_CHANNELS if channels else on_device.device.max_extent):
                return f"{list(argument.shape)} on {on_device.device.name}"
    return None


def _argmax(on_device: DeviceOperation) -> str | None:
    source, axis = on_device.argument("x"), on_device.integers("axis") or (-1,)
    if on_device.type not in ("reduce_argmax", "reduce_argmin") or source is None:
        return None
    size = source.shape[axis[0]]
    return f"over {size}" if size is not None and size > _MAX_ARGMAX else None


def _kernel(on_device: DeviceOperation) -> tuple[int, ...]:
    """The spatial size of a window; () for an op without one."""
    if on_device.type in ("conv", "conv_transpose"):
        weight = on_device.argument("weight")
        return tuple(size or 0 for size in weight.shape[2:]) if weight is not None else ()
    return on_device.integers("kernel_sizes") if on_device.type in ("avg_pool", "max_pool", "l2_pool") else ()


def _kernel_width(on_device: DeviceOperation) -> str | None:
    kernel = _kernel(on_device)
    dilations = on_device.integers("dilations") or (1,) * len(kernel)
    if not kernel:
        return None
    width = (kernel[-1] - 1) * dilations[-1] + 1
    return f"kernel width {width}" if width > _MAX_KERNEL_WIDTH else None


def _dilation(on_device: DeviceOperation) -> str | None:
    dilations = on_device.integers("dilations")
    return f"dilations {list(dilations)}" if any(dilation != 1 for dilation in dilations) else None


PLACEMENT: tuple[Rule[DeviceOperation], ...] = (
    Rule(
        "gather",
        "leaves",
        "A lookup by computed indices runs on the CPU",
        (sources.COMPUTE_PLAN, sources.GATHER),
        _gather,
    ),
    Rule("no-hardware", "leaves", "No chip has hardware for this op", (sources.CATALOG,), _no_hardware),
    Rule("recurrent", "leaves", "Recurrent layers are not supported", (sources.RECURRENT,), _recurrent),
    Rule(
        "sort", "leaves", "topk and argsort are rejected on this chip", (sources.CATALOG, sources.DETECTOR_PLAN), _sorts
    ),
    Rule("float32", "leaves", "The Neural Engine computes in float16 only", (sources.TYPED_EXECUTION,), _float32),
    Rule(
        "integer",
        "leaves",
        "int32 tensors have no path through it",
        (sources.CAPABILITIES, sources.DETECTOR_PLAN),
        _integer,
    ),
    Rule("rank-above-5", "leaves", "No tensor of rank above 5", (sources.RANK,), _rank_above_five),
    Rule(
        "extent",
        "leaves",
        "A dimension is beyond the chip's limit",
        (sources.CAPABILITIES, sources.DESIGN_RULES),
        _extent,
    ),
    Rule("argmax", "leaves", "argmax over more than 2,048 elements", (sources.DESIGN_RULES,), _argmax),
    Rule(
        "kernel-width",
        "leaves",
        "Kernels are at most 13 wide, dilation included",
        (sources.DESIGN_RULES, sources.KERNEL_WARNING),
        _kernel_width,
    ),
    Rule(
        "integer-cast", "risk", "Casts from and to int32 are rejected on some chips", (sources.CATALOG,), _integer_cast
    ),
    Rule("rank-5", "risk", "Rank 4, channels first, is what it is made for", (sources.TRANSFORMERS,), _rank_five),
    Rule(
        "flexible-shape",
        "risk",
        "With a flexible shape only the default one runs there, or none",
        (sources.FLEXIBLE_SHAPES, sources.FLEXIBLE_BATCH, sources.ENUMERATED),
        _flexible,
    ),
    Rule(
        "dilation",
        "risk",
        "Sources contradict each other on dilated convolution",
        (sources.EXPERIMENTS, sources.CATALOG),
        _dilation,
    ),
    Rule("unknown-op", "risk", "No public source says that this op runs there", (sources.CATALOG,), _unknown),
)
"""The worst first."""
