"""Report of an artifact's functions, weights and versions, beyond input, output and operators."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel

LARGEST = 10


class PortInspection(BaseModel, frozen=True, extra="forbid"):
    """An input or output; a free size is None.

    `scale` and `bias` are applied to an image's bytes on the way in. `shapes` lists all allowed shapes. `ranges` has
    the smallest and largest value of each size (-1: any).
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int | None, ...]
    colour: str | None = None
    scale: tuple[float, ...] | None = None
    bias: tuple[float, ...] | None = None
    shapes: tuple[tuple[int | None, ...], ...] | None = None
    ranges: tuple[tuple[int, int], ...] | None = None


class StoredKind(BaseModel, frozen=True, extra="forbid"):
    """Weights stored in one way: number of tensors and elements, and their bytes as stored."""

    tensors: int
    elements: int
    bytes: int


class StoredTensor(BaseModel, frozen=True, extra="forbid"):
    """One weight, and its bits per element as stored."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str
    bytes: int
    bits: float

    @classmethod
    def of(cls, name: str, shape: tuple[int, ...], dtype: str, kind: str, size: int) -> Self:
        """Creates the record of a weight from its size in bytes."""
        bits = round(8 * size / max(math.prod(shape), 1), 2)
        return cls(name=name, shape=shape, dtype=dtype, kind=kind, bytes=size, bits=bits)


class FunctionInspection(BaseModel, frozen=True, extra="forbid"):
    """Inputs, outputs and contents of a function: operations by type and by precision, operations that the evaluator
    does not support, weights by kind, and the largest weights."""

    inputs: tuple[PortInspection, ...]
    outputs: tuple[PortInspection, ...]
    operations: int
    by_type: dict[str, int]
    by_precision: dict[str, int]
    not_evaluated: dict[str, int]
    weight_bytes: int
    weights: dict[str, StoredKind]
    largest: tuple[StoredTensor, ...]

    @classmethod
    def of(
        cls,
        ports: tuple[Iterable[PortInspection], Iterable[PortInspection]],
        types: Iterable[str],
        precisions: Iterable[str],
        weights: Sequence[tuple[str, StoredTensor]],
        not_evaluated: Mapping[str, int] | None = None,
    ) -> Self:
        """Counts operations by type and precision, and weights by the way they are stored."""
        by_type = Counter(types)
        kinds: dict[str, list[StoredTensor]] = {}
        for label, weight in weights:
            kinds.setdefault(label, []).append(weight)
        stored_kinds = {
            label: StoredKind(
                tensors=len(group),
                elements=sum(math.prod(weight.shape) for weight in group),
                bytes=sum(weight.bytes for weight in group),
            )
            for label, group in kinds.items()
        }
        return cls(
            inputs=tuple(ports[0]),
            outputs=tuple(ports[1]),
            operations=by_type.total(),
            by_type=dict(by_type.most_common()),
            by_precision=dict(Counter(precisions).most_common()),
            not_evaluated=dict(not_evaluated or {}),
            weight_bytes=sum(weight.bytes for _, weight in weights),
            weights=dict(sorted(stored_kinds.items(), key=lambda item: -item[1].bytes)),
            largest=tuple(sorted((weight for _, weight in weights), key=lambda weight: -weight.bytes)[:LARGEST]),
        )


class PackageInspection(BaseModel, frozen=True, extra="forbid"):
    """A package: `bytes` is its size on disk, `title` its format's name for people. Weights that functions share are
    counted in each."""

    kind: str
    title: str
    bytes: int
    specification_version: int | str
    deployment_target: str
    metadata: dict[str, str]
    functions: dict[str, FunctionInspection]

    def as_dict(self) -> dict[str, Any]:
        """Returns the report for JSON, without empty (None) fields."""
        return self.model_dump(mode="json", exclude_none=True)
