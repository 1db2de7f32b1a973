"""`QnnArtifact`: an opened artifact with the ONNX model that its binaries were compiled from, and each binary on the
emulator."""

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
from mobileclip_deploy.targets.onnx.opening import OnnxArtifact
from mobileclip_deploy.targets.onnx.reading import ports_of
from mobileclip_deploy.targets.qnn.chips import CHIPS, Chip, chips_of
from mobileclip_deploy.targets.qnn.context import UNION, Context, beside, contexts_of, source_of
from mobileclip_deploy.targets.qnn.emulator import FILLED, EmulatorRunner, compile_for, engine, placement
from mobileclip_deploy.targets.qnn.tables import looked_up, other_rows
from mobileclip_deploy.targets.values import Runner, TensorInfo

if TYPE_CHECKING:
    from mobileclip_deploy.targets.benchmarking import Session, SessionSetup
    from mobileclip_deploy.targets.grids.decode import StoredWeight
    from mobileclip_deploy.targets.mil.lint.report import LintReport


class QnnArtifact(OnnxArtifact):
    """A folder of context binaries, and the model that was compiled.

    Nobody can read the binaries' computations: weights and graph are the model's, and each binary has its own answers.
    Word tables are read from the binaries too.

    Args:
        cpu: True if operations that stay on the CPU may surround a binary.
    """

    def __init__(self, path: Path, function: str | None = None, *, cpu: bool = False) -> None:
        super().__init__(path, function)
        self._cpu = cpu

    @cached_property
    def file(self) -> Path:
        """Model that was compiled, or, without a folder of binaries, a model that can be."""
        return self.path if self.path.suffix == ".onnx" else source_of(self.path)

    @cached_property
    def contexts(self) -> tuple[Context, ...]:
        """Contexts, one for each chip and each length of a text; all chips have the same inputs and outputs."""
        contexts = contexts_of(self.path, self._cpu)
        chips = {each.chip: tuple(other.shape for other in contexts if other.chip == each.chip) for each in contexts}
        ports = {(tuple(replace(port, shape=()) for port in each.ports[0]), each.ports[1]) for each in contexts}
        if len(ports) != 1 or len({*chips.values()}) != 1 or any(len({*row}) < len(row) for row in chips.values()):
            raise InvalidInput(f"{self.path}: inputs or outputs differ between chips")
        return contexts

    @property
    def chips(self) -> tuple[Chip, ...]:
        """Chips that have binaries."""
        return tuple(dict.fromkeys(context.chip for context in self.contexts))

    @property
    def _union(self) -> Path | None:
        """Binary for all of the chips, which versions until 0.4 wrote. None if there is none."""
        binary = beside(self.file, UNION).with_suffix(".bin")
        return binary if binary.exists() else None

    @property
    def unasked(self) -> str | None:
        return None if self._union is None else "the binary for several chips: mobileclip-deploy 0.4.0 verifies it"

    @property
    def _binaries(self) -> dict[str, Path]:
        """Binary of each context, by label."""
        return {context.label: context.binary for context in self.contexts}

    @property
    def _sizes(self) -> dict[str, int]:
        """Bytes of each binary, and of the one for all chips, by label."""
        union = {} if self._union is None else {UNION: self._union}
        return {name: artifact_bytes(path) for name, path in (self._binaries | union).items()}

    def compiled_for(self, chip: str, shape: tuple[int, ...]) -> tuple[Path, str]:
        chips = {entry.code: entry for entry in CHIPS}
        if chip not in chips:
            raise NotRun(f"the NPU of the phone's chip {chip} is not supported; supported: {', '.join(chips)}")
        architecture = f"v{chips[chip].architecture}"
        # A binary for one chip of an architecture serves its other chips; the first golden answers show if it does.
        for label in (chips[chip].label, architecture):
            for name in (f"*.{label}-{shape[1]}.bin", f"*.{label}.bin"):
                if binaries := sorted(self.path.glob(name)):
                    return binaries[0], architecture
        raise NotRun(f"{self.path.name} has no binary for the phone's {chip}: export again with `chip='{chip}'`")

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
        """Contents of the model, with the bytes of each binary in `chips`, and those that each chip's NPU spills in
        `spill_fill`."""
        spilled = {context.label: context.spilled for context in self.contexts}
        return {**super().contents, "chips": self._sizes, "spill_fill": spilled}

    @property
    def facts(self) -> dict[str, str]:
        """Size and chip of each binary."""
        uses = {}
        for each in self.contexts:
            tokens = "" if each.shape == self.inputs[0].shape else f", {each.shape[1]} tokens"
            uses[each.label] = f"Hexagon v{each.chip.architecture} of {each.chip.code}, {each.chip.title}{tokens}"
        if self._union is not None:
            uses[UNION] = f"{', '.join(each.code for each in self.chips)}; its answers are not computed"
        return {f"binary {name}": f"{self._sizes[name] / 1e6:.1f} MB, for {what}" for name, what in uses.items()}

    @cached_property
    def weights(self) -> tuple[StoredWeight, ...] | None:
        """Weights of the model. The word tables are also compared with each binary's.

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
            return f"its binaries are {', '.join(self._binaries)}; a new compilation has {', '.join(other._binaries)}"
        for label, binary in self._binaries.items():
            fresh = other._binaries[label]
            old, new = (np.frombuffer(path.read_bytes(), np.uint8) for path in (binary, fresh))
            if np.array_equal(old, new):
                continue
            apart = np.ones(len(old), bool)
            if len(old) == len(new):
                apart = (old != new) & ~other._padding(label, new)
            if apart.any():
                count = f"{np.count_nonzero(apart):,} of {len(old):,} bytes of {binary.name}"
                return f"{count} differ from a new compilation's, the first at {apart.argmax():,}"
        return None

    def _padding(self, label: str, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Returns a mask [N] of a binary's bytes that the compiler leaves unfilled: those that change with the initial
        content of its memory."""
        (context,) = (context for context in self.contexts if context.label == label)
        tokens = context.shape[1] if len({context.shape for context in self.contexts}) > 1 else 0
        refilled = compile_for(self.file, context.chip, cpu=self._cpu, tokens=tokens, fill=FILLED).binary
        other = np.frombuffer(refilled, np.uint8)
        return other != data if len(other) == len(data) else np.zeros(len(data), bool)

    def runner(self) -> Runner:
        """Loads the first chip's binary on the emulator; for a float32 twin, which no NPU computes, ONNX Runtime."""
        is_twin = self._told.get("precision") == "fp32"
        return super().runner() if is_twin else self._on(self.contexts[0].chip)

    def runners(self) -> Iterator[Callable[[], Runner]]:
        """Yields loaders of every chip's binaries on the emulator."""
        yield from (partial(self._on, chip) for chip in self.chips)

    def stand_in(self) -> Runner:
        """Loads the model that was compiled, on ONNX Runtime's CPU."""
        return super().runner()

    def compiled(self, place: str, inputs: npt.NDArray[np.generic] | None = None) -> Compiled:
        """Compiles the model again for the first of its chips, and runs the existing binary."""
        chip = self.contexts[0].chip
        compilation = placement(chip, self.file, self._tokens)
        answers = None if inputs is None else self._on(chip)(inputs)
        return Compiled(engine(chip), compilation.operations, compilation.left, answers=answers)

    def layer_noise(self, inputs: npt.NDArray[np.generic]) -> Iterator[LayerNoise]:
        """Yields the noise of each layer on the emulator of the first chip."""
        from mobileclip_deploy.targets.qnn.layers import layer_noise

        yield from layer_noise(self, self.contexts[0].chip, inputs)

    def lint(self, device: str) -> tuple[LintReport, ...]:
        """Returns a report for each of its chips; for a model without binaries one for each default chip."""
        from mobileclip_deploy.targets.qnn.linting import lint_model

        has_binaries = self.path.suffix != ".onnx"
        chips = self.chips if has_binaries else chips_of(None)
        return tuple(lint_model(self, chip, self._tokens) for chip in chips)

    @property
    def _told(self) -> dict[str, str]:
        return {entry.key: entry.value for entry in self.model.metadata_props}

    @property
    def _tokens(self) -> int:
        """Length to which the compiler fixes a free length of texts: the longest. 0 if no length is free."""
        if ports_of(self.model.graph)[0][0].shape[1:] != (0,):
            return 0
        if self.path.suffix == ".onnx":
            return load_variant(self._told["variant"]).tokens.context_length
        return self.contexts[0].shape[1]

    def session(self, setup: SessionSetup) -> Session:
        """Returns a session on this machine's NPU: `QnnTarget.places` returns no other place."""
        from mobileclip_deploy.targets.qnn.npu import NpuSession

        return NpuSession([context for context in self.contexts if context.shape == setup.input.shape], setup)

    def _on(self, chip: Chip) -> Runner:
        return EmulatorRunner(chip, {c.shape: c.path for c in self.contexts if c.chip == chip}, self.inputs[0])
