"""Changing a .tflite by the tables of LiteRT's own package, and writing it as the runtime wants it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mobileclip_deploy.base.files.arrays import Array

ALIGNMENT = 16  # of constants; the schema asks for it, and kernels may load so many bytes at a time


class Editor:
    """A file as LiteRT's tree of tables (`model`, a ModelT); constants behind the flatbuffer are brought into it."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated
        from ai_edge_litert.tools.flatbuffer_utils import read_model_from_bytearray

        self.schema: Any = schema_py_generated
        self.model: Any = read_model_from_bytearray(content)

    @property
    def graph(self) -> Any:
        """The one graph of the file."""
        return self.model.subgraphs[0]

    def packed(self) -> bytes:
        """The bytes of the file; the same changes give the same bytes."""
        import flatbuffers

        self._drop_unused()
        aligned = _aligned(self.schema)
        for place, buffer in enumerate(self.model.buffers):
            if buffer.data is not None and len(buffer.data):
                self.model.buffers[place] = aligned(buffer.data)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def add_metadata(self, name: str, content: bytes) -> None:
        """Add an entry to what the file says of itself."""
        entry = self.schema.MetadataT(name.encode(), self._buffer(np.frombuffer(content, np.uint8)))
        self.model.metadata = [*(self.model.metadata or []), entry]

    def store_int8(self, place: int, integers: Array, scales: Array, axis: int) -> None:
        """Put integers with a scale for each index of an axis in the place of a constant."""
        grid = self.schema.QuantizationParametersT()
        grid.scale, grid.quantizedDimension = scales.astype(np.float32), axis
        grid.zeroPoint = np.zeros(len(scales), np.int64)
        self._store(place, self.schema.TensorType.INT8, integers, grid)

    def store_int4(self, place: int, packed: Array, scales: Array, block: int) -> None:
        """Put integers, two per byte, with one scale per block of a row [rows, blocks], in the place of a constant."""
        held = self.constant(self.graph.tensors[place].name + b"_scales", scales.astype(np.float16))
        details = self.schema.BlockwiseQuantizationT(scales=held, zeroPoints=-1, blockSize=block)
        grid = self.schema.QuantizationParametersT()
        grid.detailsType, grid.details = self.schema.QuantizationDetails.BlockwiseQuantization, details
        self._store(place, self.schema.TensorType.INT4, packed, grid)

    def store_half(self, place: int, values: Array) -> None:
        """Put float16 in the place of a constant, and have it raised to float32 before anything takes it.

        Of a table of words only the rows that are looked up are raised: LiteRT's GPU takes no other form of it, and on
        a CPU the table needs no second copy.
        """
        schema, tensor, types = self.schema, self.graph.tensors[place], self.schema.TensorType
        half = self.constant(tensor.name + b"_half", values)
        tensor.buffer = 0
        lookups = [one for one in self.graph.operators if place in one.inputs and self.is_type(one, "EMBEDDING_LOOKUP")]
        for lookup in lookups:
            (rows,), where = lookup.outputs, self.graph.operators.index(lookup)
            found = self.computed(b"rows_half", self.graph.tensors[rows].shape)
            self.graph.tensors[found].type = types.FLOAT16
            whole = schema.CastOptionsT(inDataType=types.FLOAT16, outDataType=types.FLOAT32)
            self.graph.operators[where : where + 1] = [
                self.operator("GATHER", [half, lookup.inputs[0]], found, schema.GatherOptionsT(axis=0, batchDims=0)),
                self.operator("CAST", [found], rows, whole),
            ]
        if not lookups:
            raised = self.operator("DEQUANTIZE", [half], place, schema.DequantizeOptionsT(), version=3)
            self.graph.operators.insert(0, raised)

    def keep_ranks(self) -> None:
        """Give products the rank [1, N, K] of what is around them: LiteRT's GPU compiles integer weights of no other.

        Where the converter folds rows to [N, K], it is next to a RESHAPE or to an ADD that stretches them again.
        """
        tensors, given = self.graph.tensors, {place: one for one in self.graph.operators for place in one.outputs}
        for operator in self.graph.operators:
            (result,) = operator.outputs[:1]
            shape = list(tensors[result].shape)
            if not self.is_type(operator, "FULLY_CONNECTED") or len(shape) != 2 or shape[0] == 1:
                continue
            takers = [one for one in self.graph.operators if result in one.inputs]
            source = operator.inputs[0]
            folded = len(tensors[source].shape) == 2
            stretched = all(
                self.is_type(one, "RESHAPE") or (self.is_type(one, "ADD") and len(tensors[one.outputs[0]].shape) == 3)
                for one in takers
            )
            if not stretched or (folded and not self.is_type(given.get(source), "RESHAPE")):
                continue
            if folded:
                self._reshape(given[source], [1, *tensors[source].shape])
            tensors[result].shape, tensors[result].shapeSignature = [1, *shape], None
            operator.builtinOptions.keepNumDims = True

    def _reshape(self, operator: Any, shape: list[int]) -> None:
        """Have a RESHAPE give another shape of as many numbers."""
        (result,) = operator.outputs
        tensor = self.graph.tensors[result]
        tensor.shape, tensor.shapeSignature = shape, None
        wanted = np.asarray(shape, np.int32)
        operator.inputs = [operator.inputs[0], self.constant(tensor.name + b"_shape", wanted)]
        if operator.builtinOptions is not None:
            operator.builtinOptions.newShape = wanted

    def store_float(self, place: int, values: Array | None) -> None:
        """Have a tensor hold float32: these numbers, or what is computed."""
        tensor = self.graph.tensors[place]
        tensor.type, tensor.quantization = self.schema.TensorType.FLOAT32, None
        if values is not None:
            tensor.buffer = self._buffer(values)

    def cap_by_minimum(self) -> None:
        """Write RELU_0_TO_1 of what is never negative as a minimum with 1: LiteRT's GPU has no kernel for the other."""
        operators, codes = self.graph.operators, self.model.operatorCodes
        for place, operator in enumerate(operators):
            if self.is_type(operator, "RELU_0_TO_1"):
                taken = [operator.inputs[0], self.constant(b"one", np.ones(1, np.float32))]
                options = self.schema.MaximumMinimumOptionsT()
                operators[place] = self.operator("MINIMUM", taken, operator.outputs[0], options)
        used = sorted({operator.opcodeIndex for operator in self.graph.operators})
        self.model.operatorCodes = [codes[place] for place in used]
        for operator in self.graph.operators:
            operator.opcodeIndex = used.index(operator.opcodeIndex)

    def leave_out(self, types: tuple[str, ...], same: dict[int, int]) -> None:
        """Leave operators out, and take instead of each tensor of `same` the other one."""
        numbers = {getattr(self.schema.BuiltinOperator, name) for name in types}
        codes = self.model.operatorCodes
        kept = [one for one in self.graph.operators if codes[one.opcodeIndex].builtinCode not in numbers]
        for operator in kept:
            operator.inputs = [same.get(place, place) for place in operator.inputs]
        self.graph.operators = kept
        self.graph.outputs = [same.get(place, place) for place in self.graph.outputs]
        for signature in self.model.signatureDefs:
            for entry in signature.outputs:
                entry.tensorIndex = same.get(entry.tensorIndex, entry.tensorIndex)

    def computed(self, name: bytes, shape: Sequence[int]) -> int:
        """The place of a new tensor of float32 that an operator gives."""
        kind, sizes = self.schema.TensorType.FLOAT32, [int(size) for size in shape]
        self.graph.tensors.append(self.schema.TensorT(name=name, shape=sizes, type=kind, hasRank=True))
        return len(self.graph.tensors) - 1

    def constant(self, name: bytes, values: Array) -> int:
        """The place of a new constant of float32, float16 or int32."""
        kinds = {"float32": "FLOAT32", "float16": "FLOAT16", "int32": "INT32"}
        kind = getattr(self.schema.TensorType, kinds[values.dtype.name])
        place = self.computed(name, values.shape)
        self._store(place, kind, values, None)
        return place

    def drop_tensors(self) -> None:
        """Leave out the tensors that nothing takes or gives any more, of a file in which none is quantized."""
        graph, signature = self.graph, self.model.signatureDefs[0]
        ports = [*signature.inputs, *signature.outputs]
        lists = [graph.inputs, graph.outputs, *(own for one in graph.operators for own in (one.inputs, one.outputs))]
        kept = sorted({int(place) for places in lists for place in places if place >= 0})
        new = {-1: -1} | {old: number for number, old in enumerate(kept)}
        graph.tensors = [graph.tensors[place] for place in kept]
        graph.inputs, graph.outputs = ([new[place] for place in places] for places in (graph.inputs, graph.outputs))
        for one in graph.operators:
            one.inputs, one.outputs = [new[place] for place in one.inputs], [new[place] for place in one.outputs]
        for port in ports:
            port.tensorIndex = new[port.tensorIndex]

    def _drop_unused(self) -> None:
        """Leave out the buffers that nothing holds any more; the first is the empty one of whatever is computed."""
        holders = [*self.graph.tensors, *(self.model.metadata or [])]
        kept = sorted({0, *(holder.buffer for holder in holders)})
        places = {old: new for new, old in enumerate(kept)}
        self.model.buffers = [self.model.buffers[place] for place in kept]
        for holder in holders:
            holder.buffer = places[holder.buffer]

    def _store(self, place: int, kind: int, values: Array, grid: Any) -> None:
        tensor = self.graph.tensors[place]
        tensor.type, tensor.buffer, tensor.quantization = kind, self._buffer(values), grid

    def _buffer(self, values: Array) -> int:
        data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(self.schema.BufferT(data))
        return len(self.model.buffers) - 1

    def operator(self, name: str, inputs: list[int], output: int, options: Any, version: int = 1) -> Any:
        """A new operator of one output, not yet in the graph."""
        made = self.schema.OperatorT(opcodeIndex=self._code(getattr(self.schema.BuiltinOperator, name), version))
        made.inputs, made.outputs, made.builtinOptions = inputs, [output], options
        made.builtinOptionsType = getattr(self.schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        return made

    def values(self, place: int) -> Array | None:
        """A constant's numbers, float32 or int32; None of what is computed."""
        tensor = self.graph.tensors[place]
        content = self.model.buffers[tensor.buffer].data
        if content is None or not len(content):
            return None
        kinds = {self.schema.TensorType.FLOAT32: np.float32, self.schema.TensorType.INT32: np.int32}
        return np.frombuffer(bytes(content), kinds[tensor.type]).reshape(tensor.shape)

    def is_type(self, operator: Any, name: str) -> bool:
        """Whether there is an operator, and it is of this type."""
        number = getattr(self.schema.BuiltinOperator, name)
        return operator is not None and self.model.operatorCodes[operator.opcodeIndex].builtinCode == number

    def _code(self, number: int, version: int) -> int:
        """Which entry of the file's operator codes is a builtin operator; a new one where there is none."""
        codes = self.model.operatorCodes
        for place, code in enumerate(codes):
            if code.builtinCode == number:
                code.version = max(version, code.version)
                return place
        older = min(number, 127)  # a field of one byte, for runtimes of before 2020
        codes.append(self.schema.OperatorCodeT(deprecatedBuiltinCode=older, version=version, builtinCode=number))
        return len(codes) - 1


def _aligned(schema: Any) -> Any:
    """A buffer that writes itself where its alignment allows: what LiteRT's package writes stands anywhere."""

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
