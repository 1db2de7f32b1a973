"""Files of an artifact: the ONNX model that was compiled, and for each chip a model of one node with its binary.

`<name>.onnx`, and `<name>.v75.onnx` that points to `<name>.v75.bin` in the same folder, `<name>.v75-16.onnx` if a text
tower takes 16 tokens too. The folder may hold nothing else, and no model may
point elsewhere. Qualcomm does not document the binary. Three things are checked in it: its length, the chip's number,
and the presence of the model's graph.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from mobileclip_deploy.errors import InvalidInput, Malformed, reraising
from mobileclip_deploy.targets.flatbuffer import Table, read
from mobileclip_deploy.targets.onnx.reading import ports_of
from mobileclip_deploy.targets.qnn.chips import CHIPS, Chip
from mobileclip_deploy.targets.values import TensorInfo

NODE, DOMAIN = "EPContext", "com.microsoft"
PROVIDER = "QNNExecutionProvider"
COMPATIBILITY = f"ep_compatibility_info.{PROVIDER}"
LABELS = {chip.label: chip for chip in CHIPS}
MOST_SPILLED = 1 << 40
UNION = "union"
"""Label of the binary that several chips share, instead of a chip's; versions until 0.4 wrote it."""
# Offsets in a binary: the head's length, then offset and length of the rest, and a table after these.
HEAD, REST, TABLE = 0x10, 0x18, 0x40
BACKEND, SOC, HTP = 0, 16, 6


def source_of(folder: Path) -> Path:
    """Returns the path of the model that was compiled.

    Raises:
        InvalidInput: the folder does not hold exactly one, or holds files that do not belong to an artifact.
    """
    with reraising(f"{folder} is not a readable folder of context binaries", OSError):
        names = {path.name for path in folder.iterdir()}
        odd = sorted(name for name in names if (folder / name).is_symlink() or not (folder / name).is_file())
    if odd:
        raise InvalidInput(f"{folder} holds {odd[0]!r}, which is not a regular file")
    sources = [name for name in names if name.endswith(".onnx") and _label(name) is None]
    if len(sources) != 1:
        raise InvalidInput(f"{folder} holds {len(sources)} compiled models, not one")
    stem = sources[0].removesuffix(".onnx")
    others = sorted(
        name
        for name in names - {sources[0]}
        if not name.startswith(f"{stem}.") or name.count(".") != stem.count(".") + 2 or _label(name) is None
    )
    if others:
        raise InvalidInput(f"{folder} holds {others[0]!r}, which is not part of such an artifact")
    return folder / sources[0]


def _label(name: str) -> str | None:
    """Returns the label before the suffix of a chip's or a union's file: `v75`, `v75-16`, `union`. None for other
    files."""
    label = name.removesuffix(".onnx").removesuffix(".bin").rpartition(".")[2]
    chip, dash, tokens = label.partition("-")
    return label if label == UNION or (chip in LABELS and bool(dash) == tokens.isdecimal()) else None


@dataclass(frozen=True)
class Context:
    """A chip's model of one node.

    `label` names its files: `v75`, or `v75-16` if it takes texts shorter than the tower's full length.
    """

    label: str
    chip: Chip
    path: Path
    model: onnx.ModelProto

    @property
    def binary(self) -> Path:
        return self.path.with_suffix(".bin")

    @property
    def ports(self) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        """Inputs and outputs."""
        return ports_of(self.model.graph)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of its input; empty if it has none."""
        return next((port.shape for port in self.ports[0]), ())

    @property
    def spilled(self) -> int:
        """Bytes that the NPU spills out of its own memory and reads back, as Qualcomm's system library reported when
        the binary was written."""
        return max(int(_settings(node).get("max_size", 0)) for node in self.model.graph.node if node.op_type == NODE)


def contexts_of(folder: Path, cpu: bool = False) -> tuple[Context, ...]:
    """Returns the contexts of all chips in a folder, in the order of the table of chips. A chip's longest text comes
    first.

    Args:
        cpu: True if operations that stay on the CPU may surround the node.

    Raises:
        InvalidInput: see `Context`; or there is none.
    """
    source = source_of(folder)
    models, binaries = (
        {label for path in folder.glob(f"*.*.{end}") if (label := _label(path.name)) not in (None, UNION)}
        for end in ("onnx", "bin")
    )
    if models != binaries:
        raise InvalidInput(f"{folder} holds {len(models)} models for chips and {len(binaries)} binaries")
    if not models:
        raise InvalidInput(f"{folder} has no binary for any chip")
    contexts = [_context(beside(source, label), label, cpu) for label in models if label is not None]
    chips = list(LABELS.values())
    return tuple(sorted(contexts, key=lambda one: (chips.index(one.chip), [-size for size in one.shape], one.label)))


def beside(source: Path, label: str) -> Path:
    """Returns the path of the model of one node with a label, which need not exist."""
    return source.with_name(f"{source.stem}.{label}.onnx")


def _context(path: Path, label: str, cpu: bool) -> Context:
    name, _, tokens = label.partition("-")
    chip = LABELS[name]
    with reraising(f"{path} cannot be used", OSError, DecodeError, ValueError):
        model = onnx.load(path, load_external_data=False)
        context = Context(label, chip, path, model)
        _require_own(model, context.binary.name, cpu)
        info = {entry.key: entry.value for entry in model.metadata_props}.get(COMPATIBILITY, "")
        # `v2:6:2.51.0:5.51.0:75:57:0:0`: format, backend, versions of software and backend, architecture, chip.
        if info.split(":")[4:6] != [str(chip.architecture), str(chip.soc)]:
            raise Malformed(f"its metadata names another chip than {chip.code}")
        if tokens and context.shape != (1, int(tokens)):
            raise Malformed(f"it does not take {tokens} tokens")
        _require_graph(context)
    return context


def _require_own(model: onnx.ModelProto, own: str, cpu: bool) -> None:
    """Refuses a model that has more than its node, or points to another file than its own.

    Raises:
        Malformed: the text says which.
    """
    graph = model.graph
    nodes = [node for node in graph.node if (node.domain, node.op_type) == (DOMAIN, NODE)]
    if not nodes or (len(graph.node) != 1 and not cpu) or model.functions or graph.sparse_initializer:
        raise Malformed(f"it has {len(graph.node)} operations, not one of the type {NODE}")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise Malformed("it keeps elements in other files")
    for node in nodes:
        settings = _settings(node)
        if settings.get("embed_mode", 0) or settings.get("ep_cache_context", own) != own:
            raise Malformed(
                f"it points to {str(settings.get('ep_cache_context', 'itself'))[:80]!r}, not to {own!r} next to it"
            )
        if settings.get("source") != PROVIDER:
            raise Malformed("it is for another execution provider")
        if type(size := settings.get("max_size", 0)) is not int or not 0 <= size <= MOST_SPILLED:
            raise Malformed("its max_size is not a number of bytes")
    if not any(_settings(node).get("main_context", 1) for node in nodes):
        raise Malformed(f"nothing in it points to {own!r}")


def _settings(node: onnx.NodeProto) -> dict[str, Any]:
    attributes = {attr.name: helper.get_attribute_value(attr) for attr in node.attribute}
    return {
        name: value.decode(errors="replace") if isinstance(value, bytes) else value
        for name, value in attributes.items()
    }


def _require_graph(context: Context) -> None:
    """Refuses a binary of another chip, or without the graph that its model needs.

    Raises:
        Malformed: the text says how.
    """
    data, name, chip = context.binary.read_bytes(), context.binary.name, context.chip
    with reraising(f"{name} is not a context binary of a known form", Malformed, into=Malformed):
        end = TABLE + read(data, "<Q", HEAD)
        if len(data) != read(data, "<Q", REST) + read(data, "<Q", REST + 8):
            raise Malformed("its length differs from its header")
        head = data[TABLE:end]
        table = Table(head, read(head, "<I", 0))
        backend, soc = table.integer(BACKEND, "<I"), table.integer(SOC, "<I")
    if (backend, soc) != (HTP, chip.soc):
        raise Malformed(f"{name} is for the chip with number {soc}, not for {chip.code} ({chip.soc})")
    for graph in _graphs(context.model):
        if struct.pack("<I", len(graph)) + graph.encode() + b"\0" not in head:
            raise Malformed(f"{name} does not contain the graph {graph!r}")


def _graphs(model: onnx.ModelProto) -> Iterator[str]:
    """Yields the names that the nodes need in the binary: graphs, and the inputs and outputs of each."""
    for node in model.graph.node:
        if (node.domain, node.op_type) == (DOMAIN, NODE):
            yield from (str(_settings(node).get("partition_name", node.name)), *node.input, *node.output)


def pointed(context: bytes, binary: str, spilled: int = 0) -> bytes:
    """Returns a model that ONNX Runtime wrote, whose node now points to `binary` in the same folder and records its
    spilled bytes.

    Unused operator versions are removed.
    """
    model = onnx.ModelProto.FromString(context)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "ep_cache_context":
                attribute.s = binary.encode()
            if attribute.name == "max_size":
                attribute.i = spilled
    used = {node.domain for node in model.graph.node} | {""}
    used_imports = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(used_imports)
    return model.SerializeToString(deterministic=True)
