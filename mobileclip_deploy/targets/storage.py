"""Storage: how every weight of a tower will stand in an artifact, said before anything is converted.

Which weight is stored how is decided in `rules.py`. The exporter obeys it, recovery trains on it, the search for the
smallest bundle sums its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from mobileclip_deploy.artifacts.towers.absorbing import normed_layers, scaled_layers
from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.network.model.provenance import weight_sha256
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets.grids.grid import Grid

# Smaller weights are not worth their scales or tables; coremltools' default too.
THRESHOLD = 2048


ROTARY = ("cosines", "sines")
"""Buffers of an image tower with rotary positions (`ViT`)."""

Storage = Mapping[str, Grid]
"""The grid of every tensor of a tower, by its name in the torch module that is exported."""


@dataclass(frozen=True)
class Layer:
    """A weight that a target may store on a grid: of a convolution, linear layer or embedding, or a classifier's.

    `parameter` is its name in the exported module, `name` that of its layer in the encoder. `module` is None for the
    label embeddings [D, L] of a classifier, a buffer that features are multiplied by.
    """

    parameter: str
    weight: Tensor
    module: nn.Module | None

    @property
    def name(self) -> str:
        return self.parameter.rpartition("encoder.")[2].removesuffix(".weight")

    @property
    def axis(self) -> int:
        """The dimension with the outputs."""
        return 1 if self.module is None else 0

    @property
    def outputs(self) -> int:
        return self.weight.shape[self.axis]

    @property
    def inputs(self) -> int:
        return self.weight.shape[1 - self.axis]

    @property
    def is_table(self) -> bool:
        """Whether it is the table of words."""
        return isinstance(self.module, nn.Embedding)

    @property
    def is_projection(self) -> bool:
        """Whether its result is the embedding. No branch passes it by, and it is a thousandth of the bytes."""
        return self.name == "projection"

    @property
    def is_depthwise(self) -> bool:
        """Depthwise convolutions are few bytes, and the first to break below 8 bits: folding adds the identity branch
        to one tap of each, an outlier that a coarse grid cannot hold beside the rest."""
        return isinstance(self.module, nn.Conv2d) and self.weight.shape[1] == 1

    @property
    def is_grouped(self) -> bool:
        """Whether it is of a convolution whose outputs see a part of its inputs each."""
        return isinstance(self.module, nn.Conv2d) and self.module.groups > 1

    @property
    def is_linear(self) -> bool:
        return isinstance(self.module, nn.Linear)

    @property
    def is_on_main_path(self) -> bool:
        """Whether it is in no residual branch: stem, downsampling, projection.

        What a branch adds is small beside what passes it by, and so is the noise of its weights. Of what rounding to 4
        bits does to nano's image tower nine tenths came from its three downsamplings and its projection, a tenth of it.
        The table of words, which is on the main path too, is not one of these: it is most of a small text tower.
        """
        return self.is_projection or self.name.startswith("stem.") or ".downsample.1." in self.name

    @property
    def is_large(self) -> bool:
        """Whether it is worth scales. What has only two values (zeros) is left as it is: it has no range to divide."""
        if self.weight.numel() <= THRESHOLD:
            return False
        low, high = self.weight.min(), self.weight.max()
        return not bool(((self.weight == low) | (self.weight == high)).all())

    def is_product(self, tower: TowerName) -> bool:
        """Whether targets that rewrite the text tower's 1 x 1 convolutions as matrix products run it as one."""
        if isinstance(self.module, nn.Conv2d):
            return tower == "text" and self.module.kernel_size == (1, 1) and self.module.groups == 1
        return self.is_linear


def by_numbers(module: nn.Module, storage: Storage, floats: bool = False) -> dict[str, str]:
    """`provenance.weight_sha256` of every weight that is not stored whole -> its name.

    A converter keeps numbers, not names: they stand in its file as they are, transposed, or multiplied by the layer
    scale behind them or the norm's weight before them. So each weight has several keys.

    Args:
        floats: also of the layers whose weights stay floats.
    """
    known = {layer.parameter for layer in layers(module)} if floats else set()
    held = {name: tensor for name, tensor in tensors(module) if storage[name].kind != "float" or name in known}
    forms = [*held.items()]
    for name, layer, scale in scaled_layers(module):
        if f"{name}.weight" in held:
            forms.append((f"{name}.weight", layer.weight * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))))
    for name, linear, norm in normed_layers(module):
        if f"{name}.weight" in held:
            forms.append((f"{name}.weight", linear.weight * norm.weight))
    found: dict[str, str] = {}
    for name, tensor in forms:
        rows = tensor.detach().flatten(1).numpy()  # [O, I x taps]; a 1 x 1 convolution's transpose is a product's
        found |= {weight_sha256(rows): name, weight_sha256(rows.T): name}
    return found


def require_all(storage: Storage, found: Iterator[str] | Sequence[str]) -> None:
    """Refuse a conversion in which a weight that is to be stored on a grid does not turn up.

    Raises:
        ExportError: the text names the first one.
    """
    missing = [name for name, grid in storage.items() if grid.kind != "float" and name not in set(found)]
    if missing:
        raise ExportError(
            f"{missing[0]} is to be stored as {storage[missing[0]].describe()}, but the converter changed its numbers "
            f"({len(missing)} such weights)"
        )


def stored_in_half(storage: Storage) -> bool:
    """Whether all that is on no grid is float16."""
    return all(grid.bits == 16 for grid in storage.values() if grid.kind == "float")


def total_bytes(module: nn.Module, storage: Storage) -> int:
    """What all tensors of a tower take."""
    return sum(storage[name].bytes(tensor.shape) for name, tensor in tensors(module))


@dataclass(frozen=True)
class GridTotal:
    """One line of a summary: a grid in words, how many weights are stored on it, their numbers and their bytes."""

    grid: str
    layers: int
    weights: int
    bytes: int


def summary(module: nn.Module, storage: Storage) -> tuple[GridTotal, ...]:
    """A storage for people: one row per grid, the most bytes first."""
    rows: dict[str, GridTotal] = {}
    for name, tensor in tensors(module):
        grid = storage[name]
        row = rows.get(grid.describe(), GridTotal(grid.describe(), 0, 0, 0))
        size = grid.bytes(tensor.shape)
        rows[row.grid] = GridTotal(row.grid, row.layers + 1, row.weights + tensor.numel(), row.bytes + size)
    return tuple(sorted(rows.values(), key=lambda row: (-row.bytes, row.grid)))


def tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a module, by its name: parameters, then buffers."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def layers(module: nn.Module) -> Iterator[Layer]:
    """Every weight of a module that a target may store on a grid."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            yield Layer(f"{name}.weight", layer.weight, layer)
    for name, buffer in module.named_buffers():
        # Only a classifier has one with numbers of its own: the towers' are masks, of two values (see `is_large`), and
        # tables of rotary positions, which follow from the variant.
        if buffer.ndim == 2 and buffer.is_floating_point() and name.rpartition(".")[2] not in ROTARY:
            yield Layer(name, buffer, None)
