"""Editing of a .tflite with the tables of LiteRT's own package, and writing it as the runtime requires."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mobileclip_deploy.base.files.arrays import Array

ALIGNMENT = 16  # bytes, of constants; the schema requires it, and kernels may load 16 bytes at a time


class LiteRTEditor:
    """Editor of a file as LiteRT's tree of tables (`model`, a ModelT); constants after the flatbuffer are moved into
    it."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated
        from ai_edge_litert.tools.flatbuffer_utils import read_model_from_bytearray

        self.schema: Any = schema_py_generated
        self.model: Any = read_model_from_bytearray(content)

    @property
    def graph(self) -> Any:
        """The only graph of the file."""
        return self.model.subgraphs[0]

    def packed(self) -> bytes:
        """Returns the bytes of the file; the same changes give the same bytes."""
        import flatbuffers

        self._drop_unused()
        aligned = _aligned(self.schema)
        for index, buffer in enumerate(self.model.buffers):
            if buffer.data is not None and len(buffer.data):
                self.model.buffers[index] = aligned(buffer.data)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def add_metadata(self, name: str, content: bytes) -> None:
        """Adds an entry to the file's metadata."""
        entry = self.schema.MetadataT(name.encode(), self._buffer(np.frombuffer(content, np.uint8)))
        self.model.metadata = [*(self.model.metadata or []), entry]

    def store_int8(self, place: int, integers: Array, scales: Array, axis: int) -> None:
        """Replaces a constant by integers with a scale for each index of an axis."""
        grid = self.schema.QuantizationParametersT()
        grid.scale, grid.quantizedDimension = scales.astype(np.float32), axis
        grid.zeroPoint = np.zeros(len(scales), np.int64)
        self._store(place, self.schema.TensorType.INT8, integers, grid)

    def store_int4(self, place: int, packed: Array, scales: Array, block: int) -> None:
        """Replaces a constant by integers, two per byte, with one scale per block of a row [rows, blocks]."""
        scales_index = self.constant(self.graph.tensors[place].name + b"_scales", scales.astype(np.float16))
        details = self.schema.BlockwiseQuantizationT(scales=scales_index, zeroPoints=-1, blockSize=block)
        grid = self.schema.QuantizationParametersT()
        grid.detailsType, grid.details = self.schema.QuantizationDetails.BlockwiseQuantization, details
        self._store(place, self.schema.TensorType.INT4, packed, grid)

    def store_half(self, place: int, values: Array) -> None:
        """Replaces a constant by float16, which is converted to float32 before any operator takes it.

        For a word table only the looked-up rows are converted. LiteRT's GPU supports no other form, and on a CPU the
        table then needs no second copy.
        """
        schema, tensor, types = self.schema, self.graph.tensors[place], self.schema.TensorType
        half = self.constant(tensor.name + b"_half", values)
        tensor.buffer = 0
        lookups = [op for op in self.graph.operators if place in op.inputs and self.is_type(op, "EMBEDDING_LOOKUP")]
        for lookup in lookups:
            (rows,), where = lookup.outputs, self.graph.operators.index(lookup)
            halves = self.computed(b"rows_half", self.graph.tensors[rows].shape)
            self.graph.tensors[halves].type = types.FLOAT16
            whole = schema.CastOptionsT(inDataType=types.FLOAT16, outDataType=types.FLOAT32)
            self.graph.operators[where : where + 1] = [
                self.operator("GATHER", [half, lookup.inputs[0]], halves, schema.GatherOptionsT(axis=0, batchDims=0)),
                self.operator("CAST", [halves], rows, whole),
            ]
        if not lookups:
            raised = self.operator("DEQUANTIZE", [half], place, schema.DequantizeOptionsT(), version=3)
            self.graph.operators.insert(0, raised)

    def keep_ranks(self) -> None:
        """Gives products the rank [1, N, K] of their surroundings: LiteRT's GPU compiles integer weights only with that
        rank.

        The converter folds rows to [N, K] only next to a RESHAPE, or to an ADD that unfolds them again.
        """
        tensors, makers = self.graph.tensors, {index: op for op in self.graph.operators for index in op.outputs}
        for operator in self.graph.operators:
            (result,) = operator.outputs[:1]
            shape = list(tensors[result].shape)
            if not self.is_type(operator, "FULLY_CONNECTED") or len(shape) != 2 or shape[0] == 1:
                continue
            consumers = [op for op in self.graph.operators if result in op.inputs]
            source = operator.inputs[0]
            folded = len(tensors[source].shape) == 2
            stretched = all(
                self.is_type(op, "RESHAPE") or (self.is_type(op, "ADD") and len(tensors[op.outputs[0]].shape) == 3)
                for op in consumers
            )
            if not stretched or (folded and not self.is_type(makers.get(source), "RESHAPE")):
                continue
            if folded:
                self._reshape(makers[source], [1, *tensors[source].shape])
            tensors[result].shape, tensors[result].shapeSignature = [1, *shape], None
            operator.builtinOptions.keepNumDims = True

    def _reshape(self, operator: Any, shape: list[int]) -> None:
        """Changes the shape of a RESHAPE's result; the number of elements stays."""
        (result,) = operator.outputs
        tensor = self.graph.tensors[result]
        tensor.shape, tensor.shapeSignature = shape, None
        new_shape = np.asarray(shape, np.int32)
        operator.inputs = [operator.inputs[0], self.constant(tensor.name + b"_shape", new_shape)]
        if operator.builtinOptions is not None:
            operator.builtinOptions.newShape = new_shape

    def store_float(self, place: int, values: Array | None) -> None:
        """Changes a tensor to float32: a constant with these values, or a computed one."""
        tensor = self.graph.tensors[place]
        tensor.type, tensor.quantization = self.schema.TensorType.FLOAT32, None
        if values is not None:
            tensor.buffer = self._buffer(values)

    def cap_by_minimum(self) -> None:
        """Rewrites RELU_0_TO_1 of nonnegative values as a minimum with 1: LiteRT's GPU has no kernel for the former."""
        operators, codes = self.graph.operators, self.model.operatorCodes
        for index, operator in enumerate(operators):
            if self.is_type(operator, "RELU_0_TO_1"):
                sources = [operator.inputs[0], self.constant(b"one", np.ones(1, np.float32))]
                options = self.schema.MaximumMinimumOptionsT()
                operators[index] = self.operator("MINIMUM", sources, operator.outputs[0], options)
        used = sorted({operator.opcodeIndex for operator in self.graph.operators})
        self.model.operatorCodes = [codes[index] for index in used]
        for operator in self.graph.operators:
            operator.opcodeIndex = used.index(operator.opcodeIndex)

    def leave_out(self, types: tuple[str, ...], same: dict[int, int]) -> None:
        """Removes operators of these types, and replaces the tensors in `same`, by index, by others."""
        removed_codes = {getattr(self.schema.BuiltinOperator, name) for name in types}
        codes = self.model.operatorCodes
        remaining = [op for op in self.graph.operators if codes[op.opcodeIndex].builtinCode not in removed_codes]
        for operator in remaining:
            operator.inputs = [same.get(index, index) for index in operator.inputs]
        self.graph.operators = remaining
        self.graph.outputs = [same.get(index, index) for index in self.graph.outputs]
        for signature in self.model.signatureDefs:
            for entry in signature.outputs:
                entry.tensorIndex = same.get(entry.tensorIndex, entry.tensorIndex)

    def computed(self, name: bytes, shape: Sequence[int]) -> int:
        """Returns the index of a new float32 tensor that an operator computes."""
        kind, sizes = self.schema.TensorType.FLOAT32, [int(size) for size in shape]
        self.graph.tensors.append(self.schema.TensorT(name=name, shape=sizes, type=kind, hasRank=True))
        return len(self.graph.tensors) - 1

    def constant(self, name: bytes, values: Array) -> int:
        """Returns the index of a new constant of float32, float16 or int32."""
        kinds = {"float32": "FLOAT32", "float16": "FLOAT16", "int32": "INT32"}
        kind = getattr(self.schema.TensorType, kinds[values.dtype.name])
        index = self.computed(name, values.shape)
        self._store(index, kind, values, None)
        return index

    def drop_tensors(self) -> None:
        """Removes unused tensors, in a file without quantized tensors."""
        graph, signature = self.graph, self.model.signatureDefs[0]
        ports = [*signature.inputs, *signature.outputs]
        lists = [graph.inputs, graph.outputs, *(each for op in graph.operators for each in (op.inputs, op.outputs))]
        used = sorted({int(index) for indices in lists for index in indices if index >= 0})
        new = {-1: -1} | {old: position for position, old in enumerate(used)}
        graph.tensors = [graph.tensors[index] for index in used]
        graph.inputs, graph.outputs = ([new[index] for index in indices] for indices in (graph.inputs, graph.outputs))
        for op in graph.operators:
            op.inputs, op.outputs = [new[index] for index in op.inputs], [new[index] for index in op.outputs]
        for port in ports:
            port.tensorIndex = new[port.tensorIndex]

    def _drop_unused(self) -> None:
        """Removes unused buffers, except the first, the empty buffer of every computed tensor."""
        holders = [*self.graph.tensors, *(self.model.metadata or [])]
        used = sorted({0, *(holder.buffer for holder in holders)})
        new_indices = {old: new for new, old in enumerate(used)}
        self.model.buffers = [self.model.buffers[index] for index in used]
        for holder in holders:
            holder.buffer = new_indices[holder.buffer]

    def _store(self, place: int, kind: int, values: Array, grid: Any) -> None:
        tensor = self.graph.tensors[place]
        tensor.type, tensor.buffer, tensor.quantization = kind, self._buffer(values), grid

    def _buffer(self, values: Array) -> int:
        data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(self.schema.BufferT(data))
        return len(self.model.buffers) - 1

    def operator(self, name: str, inputs: list[int], output: int, options: Any, version: int = 1) -> Any:
        """Returns a new operator with one output, not yet in the graph."""
        operator = self.schema.OperatorT(opcodeIndex=self._code(getattr(self.schema.BuiltinOperator, name), version))
        operator.inputs, operator.outputs, operator.builtinOptions = inputs, [output], options
        operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        return operator

    def values(self, place: int) -> Array | None:
        """Returns a constant's elements, float32 or int32. None for a computed tensor."""
        tensor = self.graph.tensors[place]
        content = self.model.buffers[tensor.buffer].data
        if content is None or not len(content):
            return None
        kinds = {self.schema.TensorType.FLOAT32: np.float32, self.schema.TensorType.INT32: np.int32}
        return np.frombuffer(bytes(content), kinds[tensor.type]).reshape(tensor.shape)

    def is_type(self, operator: Any, name: str) -> bool:
        """Returns whether an operator exists and has this type."""
        code = getattr(self.schema.BuiltinOperator, name)
        return operator is not None and self.model.operatorCodes[operator.opcodeIndex].builtinCode == code

    def _code(self, number: int, version: int) -> int:
        """Returns the index of a builtin operator in the file's operator codes; adds an entry if there is none."""
        codes = self.model.operatorCodes
        for index, code in enumerate(codes):
            if code.builtinCode == number:
                code.version = max(version, code.version)
                return index
        older = min(number, 127)  # a field of one byte, for runtimes of before 2020
        codes.append(self.schema.OperatorCodeT(deprecatedBuiltinCode=older, version=version, builtinCode=number))
        return len(codes) - 1


def _aligned(schema: Any) -> Any:
    """Returns a buffer class that writes itself at an aligned position; LiteRT's package aligns nothing."""

    class Aligned(schema.BufferT):  # type: ignore[misc]
        def Pack(self, builder: Any) -> int:
            data = bytes(self.data)
            builder.StartVector(1, len(data), ALIGNMENT)
            builder.head = builder.head - len(data)
            builder.Bytes[builder.head : builder.head + len(data)] = data
            start = builder.EndVector()
            schema.BufferStart(builder)
            schema.BufferAddData(builder, start)
            return int(schema.BufferEnd(builder))

    return Aligned
