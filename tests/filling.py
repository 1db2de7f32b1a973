"""The weights of several golden checkpoints: half of what they hold is the same tensor in another, and is made once."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from golden_checkpoints import GoldenCheckpoint, fill
from torch import Tensor

from mobileclip_deploy.network.checkpoints.tensor_files import TensorFile

Entry = tuple[int, str, tuple[int, ...]]
"""What decides a tensor: seed, key and shape."""


class Filling:
    """Checkpoints of the goldens called `names`. A tensor is kept until the last golden that has it is done."""

    def __init__(self, names: Iterable[str]) -> None:
        self.kept: dict[Entry, Tensor] = {}
        self.wanted = Counter(entry for name in names for entry in self.entries(GoldenCheckpoint(name)).values())

    @staticmethod
    def entries(golden: GoldenCheckpoint) -> dict[str, Entry]:
        return {key: (golden.card["seed"], key, tuple(shape)) for key, (shape, _) in golden.card["keys"].items()}

    def file(self, golden: GoldenCheckpoint) -> TensorFile:
        entries = self.entries(golden)

        def read(key: str) -> Tensor:
            entry = entries[key]
            if entry not in self.kept:
                self.kept[entry] = fill(*entry)
            return self.kept[entry]

        return TensorFile(Path(f"{golden.name}.pt"), {key: shape for key, (_, _, shape) in entries.items()}, read)

    def done(self, golden: GoldenCheckpoint) -> None:
        """Nothing more is asked of it."""
        self.wanted.subtract(self.entries(golden).values())
        self.kept = {entry: value for entry, value in self.kept.items() if self.wanted[entry] > 0}
