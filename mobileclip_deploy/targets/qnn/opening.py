"""An artifact opened: what its binaries were made from, read as any ONNX model, and each binary on the emulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files import artifact_bytes
from mobileclip_deploy.errors import InvalidInput, NotRun
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.targets.artifact import Artifact, Compiled, LayerNoise
from mobileclip_deploy.targets.onnx.opening import OnnxArtifact, ports_of
from mobileclip_deploy.targets.qnn.chips import CHIPS, Chip, chips_of
from mobileclip_deploy.targets.qnn.context import UNION, Context, contexts_of, source_of
from mobileclip_deploy.targets.qnn.emulator import FILLED, EmulatorRunner, compile_for, engine, placement
from mobileclip_deploy.targets.qnn.tables import looked_up, other_rows
from mobileclip_deploy.targets.qnn.union import ASIDE, union_of
from mobileclip_deploy.targets.values import Runner, TensorInfo

if TYPE_CHECKING:
    from mobileclip_deploy.targets.benchmarking import Session, SessionSetup
    from mobileclip_deploy.targets.grids.decode import StoredWeight
    from mobileclip_deploy.targets.mil.lint.report import LintReport


class QnnArtifact(OnnxArtifact):
    """A folder of context binaries, and the model that was compiled. Nobody can read what the binaries compute: weights
    and graph are the model's, and answers are each binary's own. A table of words is read from the binaries too.

    Args:
        cpu: operations that stay on the CPU may stand around a binary.
    """

    def __init__(self, path: Path, function: str | None = None, *, cpu: bool = False) -> None:
        super().__init__(path, function)
        self._cpu = cpu

    @cached_property
    def file(self) -> Path:
        """What was compiled, or, of a model that no folder of binaries stands around, can be."""
        return self.path if self.path.suffix == ".onnx" else source_of(self.path)

    @cached_property
    def _read(self) -> tuple[tuple[Context, ...], Path | None]:
        found = contexts_of(self.path, self._cpu)
        chips = {one.chip: tuple(other.shape for other in found if other.chip == one.chip) for one in found}
        ports = {(tuple(replace(port, shape=()) for port in one.ports[0]), one.ports[1]) for one in found}
        if len(ports) != 1 or len({*chips.values()}) != 1 or any(len({*own}) < len(own) for own in chips.values()):
            raise InvalidInput(f"{self.path}: what goes in or comes out is not the same for all chips")
        return found, union_of(self.file, found)

    @property
    def contexts(self) -> tuple[Context, ...]:
        """One for each chip, or for each length of a text; all chips have the same inputs and outputs."""
        return self._read[0]

    @property
    def chips(self) -> tuple[Chip, ...]:
        """Those that there are binaries for."""
        return tuple(dict.fromkeys(one.chip for one in self.contexts))

    @property
    def union(self) -> Path | None:
        """The binary for all of the chips, where there is one."""
        return self._read[1]

    @property
    def unasked(self) -> str | None:
        return None if self.union is None else ASIDE

    @property
    def _binaries(self) -> dict[str, Path]:
        """Those of each chip, and the one for all of them."""
        own = {one.label: one.binary for one in self.contexts}
        return own if self.union is None else own | {UNION: self.union}

    def compiled_for(self, chip: str, shape: tuple[int, ...]) -> tuple[Path, str]:
        known = {one.code: one for one in CHIPS}
        if chip not in known:
            raise NotRun(f"the phone's chip is {chip}, whose NPU is not known here; known: {', '.join(known)}")
        architecture = f"v{known[chip].architecture}"
        # A binary for one chip of an architecture serves its other chips: what the first golden answers tell.
        for label in (known[chip].label, architecture):
            for name in (f"*.{label}-{shape[1]}.bin", f"*.{label}.bin"):
                if found := sorted(self.path.glob(name)):
                    return found[0], architecture
        raise NotRun(f"{self.path.name} holds no binary for the phone's {chip}: export again with `chip='{chip}'`")

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        whole = self.contexts[0]
        several = self.contexts[-1].shape != whole.shape
        return tuple(replace(port, shape=(1, 0)) if several else port for port in whole.ports[0])

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return self.contexts[0].ports[1]

    @property
    def contents(self) -> dict[str, dict[str, int]]:
        """As the model's; `chips`: the bytes of each binary; `spill_fill`: those that each chip's NPU spills."""
        chips = {name: artifact_bytes(path) for name, path in self._binaries.items()}
        spilled = {one.label: one.spilled for one in self.contexts}
        return {**super().contents, "chips": chips, "spill_fill": spilled}

    @property
    def facts(self) -> dict[str, str]:
        """What each binary is for."""
        told = {}
        for one in self.contexts:
            tokens = "" if one.shape == self.inputs[0].shape else f", {one.shape[1]} tokens"
            told[one.label] = f"Hexagon v{one.chip.architecture} of {one.chip.code}, {one.chip.title}{tokens}"
        if self.union is not None:
            told[UNION] = f"{', '.join(one.code for one in self.chips)}; its answers are not run"
        size = {name: f"{artifact_bytes(path) / 1e6:.1f} MB" for name, path in self._binaries.items()}
        return {f"binary {name}": f"{size[name]}, for {what}" for name, what in told.items()}

    @cached_property
    def weights(self) -> tuple[StoredWeight, ...] | None:
        """Those of the model, whose tables of words each binary has as well.

        Raises:
            InvalidInput: a binary has other rows.
        """
        for binary in () if self.path.suffix == ".onnx" else self._binaries.values():
            data = binary.read_bytes()
            for name, rows in looked_up(self.graph):
                if (wrong := other_rows(data, rows)) is not None:
                    raise InvalidInput(f"{binary} {wrong} of {name} in {self.file.name}; export again")
        return super().weights

    def unlike(self, other: Artifact) -> str | None:
        assert isinstance(other, QnnArtifact)
        if self._binaries.keys() != other._binaries.keys():
            return (
                f"there are binaries {', '.join(self._binaries)}, and a compilation gives {', '.join(other._binaries)}"
            )
        for label, binary in self._binaries.items():
            fresh = other._binaries[label]
            own, again = (np.frombuffer(path.read_bytes(), np.uint8) for path in (binary, fresh))
            if np.array_equal(own, again):
                continue
            apart = np.ones(len(own), bool)
            if len(own) == len(again):
                apart = (own != again) & ~other._padding(label, again)
            if apart.any():
                count = f"{np.count_nonzero(apart):,} of {len(own):,} bytes of {binary.name}"
                return f"{count} are not as a compilation gives them, the first at {apart.argmax():,}"
        return None

    def _padding(self, label: str, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """The bytes of a binary [N] that the compiler leaves as it found them: those that are others when it is given
        other memory."""
        own = [one for one in self.contexts if label in (UNION, one.label)]
        chips = tuple(dict.fromkeys(one.chip for one in own))
        several = len({one.shape for one in self.contexts}) > 1
        tokens = own[0].shape[1] if several and label != UNION else 0
        again = compile_for(self.file, *chips, cpu=self._cpu, tokens=tokens, fill=FILLED).binary
        other = np.frombuffer(again, np.uint8)
        return other != data if len(other) == len(data) else np.zeros(len(data), bool)

    def runner(self) -> Runner:
        """The first chip's binary on the emulator; a float32 twin, which no NPU computes, by ONNX Runtime."""
        return super().runner() if self._is_twin else self._on(self.contexts[0].chip)

    def runners(self) -> Iterator[Callable[[], Runner]]:
        """Every chip's binaries on the emulator."""
        yield from (partial(self._on, chip) for chip in self.chips)

    def stand_in(self) -> Runner:
        """The model that was compiled, by ONNX Runtime's CPU."""
        return super().runner()

    def compiled(self, place: str, inputs: npt.NDArray[np.generic] | None = None) -> Compiled:
        """Compile the model again for the first of its chips, and ask the binary that is here."""
        chip = self.contexts[0].chip
        made = placement(chip, self.file, self._tokens)
        answers = None if inputs is None else self._on(chip)(inputs)
        return Compiled(engine(chip), made.operations, made.left, answers=answers)

    def layer_noise(self, inputs: npt.NDArray[np.generic]) -> Iterator[LayerNoise]:
        """On the emulator of the first chip."""
        from mobileclip_deploy.targets.qnn.layers import layer_noise

        yield from layer_noise(self, self.contexts[0].chip, inputs)

    def lint(self, device: str) -> tuple[LintReport, ...]:
        """For each of its chips; a model that is not compiled for the chips that binaries are written for."""
        from mobileclip_deploy.targets.qnn.linting import lint_model

        own = self.path.suffix != ".onnx"
        chips = self.chips if own else chips_of(None)
        return tuple(lint_model(self, chip, self._tokens) for chip in chips)

    @property
    def _told(self) -> dict[str, str]:
        return {entry.key: entry.value for entry in self.model.metadata_props}

    @property
    def _is_twin(self) -> bool:
        return self._told.get("precision") == "fp32"

    @property
    def _tokens(self) -> int:
        """What the compiler fixes a free length of texts to: the longest; 0 where none is free."""
        if ports_of(self.model.graph)[0][0].shape[1:] != (0,):
            return 0
        if self.path.suffix == ".onnx":
            return load_variant(self._told["variant"]).tokens.context_length
        return self.contexts[0].shape[1]

    def session(self, setup: SessionSetup) -> Session:
        """On an NPU of this machine alone: `QnnTarget.places` gives no other place."""
        from mobileclip_deploy.targets.qnn.npu import NpuSession

        return NpuSession([one for one in self.contexts if one.shape == setup.input.shape], setup)

    def _on(self, chip: Chip) -> Runner:
        return EmulatorRunner(chip, {one.shape: one.path for one in self.contexts if one.chip == chip}, self.inputs[0])
