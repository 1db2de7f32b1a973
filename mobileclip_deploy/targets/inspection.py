"""What a target tells of an artifact of functions, weights and versions: more than input, output and operators."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

__all__ = ["FunctionInspection", "PackageInspection", "PortInspection", "StoredKind", "StoredTensor"]


class PortInspection(BaseModel, frozen=True, extra="forbid"):
    """An input or output; a size of None is free. `scale` and `bias` are applied to an image's bytes on the way in,
    `shapes` are all that it may have, `ranges` from and to of each size (-1: any)."""

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
    """The weights that are stored in one way: how many tensors and numbers, and their bytes as stored."""

    tensors: int
    elements: int
    bytes: int


class StoredTensor(BaseModel, frozen=True, extra="forbid"):
    """One weight, and its bits per number as stored."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str
    bytes: int
    bits: float


class FunctionInspection(BaseModel, frozen=True, extra="forbid"):
    """What a function takes, gives and computes: operations by type and by what they compute in, those that the
    evaluator does not know, weights by kind, and the largest."""

    inputs: tuple[PortInspection, ...]
    outputs: tuple[PortInspection, ...]
    operations: int
    by_type: dict[str, int]
    by_precision: dict[str, int]
    not_evaluated: dict[str, int]
    weight_bytes: int
    weights: dict[str, StoredKind]
    largest: tuple[StoredTensor, ...]


class PackageInspection(BaseModel, frozen=True, extra="forbid"):
    """A package: `bytes` is its size on disk; weights that functions share are counted in each. `title`: what people
    call such a file."""

    kind: str
    title: str
    bytes: int
    specification_version: int | str
    deployment_target: str
    metadata: dict[str, str]
    functions: dict[str, FunctionInspection]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what there is nothing of is left out."""
        return self.model_dump(mode="json", exclude_none=True)
