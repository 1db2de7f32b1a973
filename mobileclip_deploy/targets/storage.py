"""Storage: the grid of every weight of a tower in an artifact, decided before anything is converted.

`rules.py` decides how each weight is stored. The exporter obeys it, learned rounding too, and the search for
the smallest bundle sums its bytes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mobileclip_deploy.artifacts.towers.absorbing import normed_layers, scaled_layers
from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.network.model.provenance import weight_sha256
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets.grids.grid import Grid

# Number of elements up to which scales or tables do not pay; also coremltools' default.
THRESHOLD = 2048


ROTARY = ("cosines", "sines")
"""Buffers of an image tower with rotary positions (`ViT`)."""

Storage = Mapping[str, Grid]
"""Grid of every tensor of a tower, by its name in the exported torch module."""


@dataclass(frozen=True)
class Layer:
    """A weight that a target may store on a grid: of a convolution, linear layer or embedding, or a classifier's.

    Attributes:
        parameter: name in the exported module; `name` is its layer's name in the encoder.
        module: the layer; None for a classifier's label embeddings [D, L], a buffer that features are multiplied by.
    """

    parameter: str
    weight: Tensor
    module: nn.Module | None

    @property
    def name(self) -> str:
        return self.parameter.rpartition("encoder.")[2].removesuffix(".weight")

    @property
    def axis(self) -> int:
        """Dimension of the outputs."""
        return 1 if self.module is None else 0

    @property
    def outputs(self) -> int:
        return self.weight.shape[self.axis]

    @property
    def inputs(self) -> int:
        return self.weight.shape[1 - self.axis]

    @property
    def is_table(self) -> bool:
        """True if it is the word table."""
        return isinstance(self.module, nn.Embedding)

    @property
    def is_projection(self) -> bool:
        """True if its result is the embedding. No branch bypasses it, and it has a thousandth of the bytes."""
        return self.name == "projection"

    @property
    def is_depthwise(self) -> bool:
        """True for depthwise convolutions, which are few bytes, and the first to break below 8 bits. Folding adds the
        identity branch to one tap of each: an outlier that a coarse grid cannot hold together with the rest."""
        return isinstance(self.module, nn.Conv2d) and self.weight.shape[1] == 1

    @property
    def is_grouped(self) -> bool:
        """True if it is a convolution whose outputs each depend on a part of its inputs."""
        return isinstance(self.module, nn.Conv2d) and self.module.groups > 1

    @property
    def is_linear(self) -> bool:
        return isinstance(self.module, nn.Linear)

    @property
    def is_on_main_path(self) -> bool:
        """True if it is in no residual branch: stem, downsampling, projection.

        A branch adds little to the value that bypasses it, and its weights' noise adds little too. In nano's image
        tower the three downsamplings and the projection are a tenth of the weights. They caused nine tenths of the
        noise of 4-bit rounding. The word table, also on the main path, is excluded: it is most of a small text tower.
        """
        return self.is_projection or self.name.startswith("stem.") or ".downsample.1." in self.name

    @property
    def is_large(self) -> bool:
        """True if it is large enough for scales. A weight with only two values (zeros) is excluded: it has no range to
        divide."""
        if self.weight.numel() <= THRESHOLD:
            return False
        low, high = self.weight.min(), self.weight.max()
        return not bool(((self.weight == low) | (self.weight == high)).all())

    def is_product(self, tower: TowerName) -> bool:
        """Returns whether it runs as a matrix product in targets that rewrite the text tower's 1 x 1 convolutions as
        products."""
        if isinstance(self.module, nn.Conv2d):
            return tower == "text" and self.module.kernel_size == (1, 1) and self.module.groups == 1
        return self.is_linear


def by_numbers(module: nn.Module, storage: Storage, floats: bool = False) -> dict[str, str]:
    """Returns the name of every weight that is stored on a grid, by the `provenance.weight_sha256` of its elements.

    A converter keeps elements, not names. They are in its file unchanged, transposed, or multiplied by the following
    layer scale or by the preceding norm's weight. Each weight therefore has several keys.

    Args:
        floats: True to include layers whose weights stay floats.
    """
    included = {layer.parameter for layer in layers(module)} if floats else set()
    weights = {name: tensor for name, tensor in tensors(module) if storage[name].kind != "float" or name in included}
    forms = [*weights.items()]
    for name, layer, scale in scaled_layers(module):
        if f"{name}.weight" in weights:
            forms.append((f"{name}.weight", layer.weight * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))))
    for name, linear, norm in normed_layers(module):
        if f"{name}.weight" in weights:
            forms.append((f"{name}.weight", linear.weight * norm.weight))
    names: dict[str, str] = {}
    for name, tensor in forms:
        rows = tensor.detach().flatten(1).numpy()  # [O, I x taps]; a 1 x 1 convolution's transpose is a product's
        names |= {weight_sha256(rows): name, weight_sha256(rows.T): name}
    return names


def require_all(storage: Storage, converted: Iterable[str]) -> None:
    """Refuses a conversion in which a weight that belongs on a grid is missing.

    Raises:
        ExportError: the text names the first such weight.
    """
    names = {*converted}
    missing = [name for name, grid in storage.items() if grid.kind != "float" and name not in names]
    if missing:
        raise ExportError(
            f"{missing[0]} is to be stored as {storage[missing[0]].describe()}, but the converter changed its values "
            f"({len(missing)} such weights)"
        )


def stored_in_half(storage: Storage) -> bool:
    """Returns whether every tensor outside of grids is float16."""
    return all(grid.bits == 16 for grid in storage.values() if grid.kind == "float")


def total_bytes(module: nn.Module, storage: Storage) -> int:
    """Returns the bytes of all tensors of a tower."""
    return sum(storage[name].bytes(tensor.shape) for name, tensor in tensors(module))


@dataclass(frozen=True)
class GridTotal:
    """One line of a summary: a grid in words, and the number of its tensors, their elements and their bytes."""

    grid: str
    layers: int
    weights: int
    bytes: int


def summary(module: nn.Module, storage: Storage) -> tuple[GridTotal, ...]:
    """Returns a storage for people: one row per grid, the most bytes first."""
    rows: dict[str, GridTotal] = {}
    for name, tensor in tensors(module):
        grid = storage[name]
        row = rows.get(grid.describe(), GridTotal(grid.describe(), 0, 0, 0))
        size = grid.bytes(tensor.shape)
        rows[row.grid] = GridTotal(row.grid, row.layers + 1, row.weights + tensor.numel(), row.bytes + size)
    return tuple(sorted(rows.values(), key=lambda row: (-row.bytes, row.grid)))


def tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields every tensor of a module with its name: parameters, then buffers."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def layers(module: nn.Module) -> Iterator[Layer]:
    """Yields every weight of a module that a target may store on a grid."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            yield Layer(f"{name}.weight", layer.weight, layer)
    for name, buffer in module.named_buffers():
        # Only a classifier has a buffer of learned elements. The towers' buffers are masks, with two values (see
        # `is_large`), and tables of rotary positions, which follow from the variant.
        if buffer.ndim == 2 and buffer.is_floating_point() and name.rpartition(".")[2] not in ROTARY:
            yield Layer(name, buffer, None)
