"""Cells of a job, for bundles, foreign files and checkpoints. Their files are put into the job's folder."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, count
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.head import head_of
from mobileclip_deploy.artifacts.bundle.manifest import TensorEntry
from mobileclip_deploy.artifacts.heads.contexts import fitting
from mobileclip_deploy.artifacts.towers.head import EMBEDDING, Head
from mobileclip_deploy.base.files import artifact_bytes, artifact_sha256, link_or_copy
from mobileclip_deploy.base.files.names import with_fields
from mobileclip_deploy.benchmark.driver import Driver
from mobileclip_deploy.benchmark.foreign import declared, fit, foreign_target
from mobileclip_deploy.benchmark.golden import COLOURS, golden_inputs, write_raw
from mobileclip_deploy.benchmark.job import CHECKPOINT, Accuracy, Cell, Gate, Golden, Tensor, weights_beside
from mobileclip_deploy.benchmark.request import Request
from mobileclip_deploy.errors import InvalidInput, NotRun
from mobileclip_deploy.network.model.precision import PRECISIONS
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity.gates import Gates
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets.values import RuntimePlace

DICTIONARY = "dictionary"
"""Type of an output with probabilities by label (`targets.TensorInfo`)."""


class Cells:
    """Factory of a request's cells for a device, which fills `folder`.

    Each method yields the cells of one requested item. It raises NotRun if the device does not run the item, and
    InvalidInput if the item cannot be used. `expected` grows with the cells.
    """

    def __init__(self, request: Request, driver: Driver, folder: Path) -> None:
        self._request, self._driver, self._folder = request, driver, folder
        self._names: set[str] = set()
        self._sources: dict[Path, Path] = {}
        self.expected: dict[str, npt.NDArray[np.float32]] = {}
        self._references = {bundle.path: Reference.read(bundle.golden) for bundle in request.bundles}

    def of_bundle(self, bundle: Bundle) -> Iterator[Cell]:
        """Yields the bundle's towers for every place where they run; a text tower at each of its contexts."""
        manifest = bundle.manifest
        if any(entry.input.any_size for entry in manifest.towers.values()) and not self._driver.takes_pictures:
            raise NotRun(f"its image tower takes pictures of any size, which cannot be sent to {self._driver.devices}")
        if manifest.layout is not None and manifest.layout.applied is not None:
            raise NotRun("its app applies mean and std; measure an export without `layout`, which computes the same")
        places = self._driver.places(manifest.target, manifest.options)
        name, head = self._name(bundle.path.name), head_of(bundle)
        gate_at = partial(_gate, manifest.gates, probabilities=bool(head.names))
        for tower in self._towers(bundle):
            entry = manifest.towers[tower]
            if entry.output.dtype == DICTIONARY:
                what = "outputs a dictionary of labels, which cannot be timed"
                raise NotRun(f"its classifier {what}; measure an export without `labels`, which computes the same")
            source = _tensor(entry.input, manifest.preprocess.size)
            cell = Cell(
                id=f"{name}.{tower}",
                label=f"{bundle.path.name} {tower}",
                competitor=False,
                bundle=bundle.path.name,
                variant=None if tower == "text" and manifest.checkpoint.text_form else manifest.variant,
                tower=tower,
                target=manifest.target,
                precision=entry.precision,
                accuracy=_accuracy(bundle),
                file=self._put(bundle.artifact(tower), name),
                sha256=entry.sha256,
                bytes=entry.bytes,
                runtime=places[0].runtime,
                threads=1,
                options={"function": entry.function} if entry.function else {},
                input=source,
                output=_tensor(entry.output, manifest.embed_dim),
                resizing=_resizing(bundle, tower) if entry.input.any_size else None,
            )
            gate = gate_at(entry.precision)
            for sized in _contexts(cell, bundle, entry.contexts or ()):
                golden = self._golden(bundle, tower, sized.input, head)
                yield from self._spread(sized.model_copy(update={"golden": golden, "gate": gate}), places, gate_at)

    def of_checkpoint(self, bundle: Bundle) -> Iterator[Cell]:
        """Yields the checkpoint that a bundle was exported from, in the requested forms of torch."""
        if not self._driver.runs_checkpoints:
            raise NotRun(f"checkpoints do not run on {self._driver.devices}")
        manifest = bundle.manifest
        path = self._request.checkpoint_of(bundle)
        if path is None:
            raise NotRun(f"the checkpoint {manifest.checkpoint.file} was not found; give it with `checkpoint`")
        name = self._name(f"{manifest.variant}-{CHECKPOINT}-fp32")
        size, length = manifest.preprocess.size, manifest.context_length
        preprocess = manifest.checkpoint.preprocess
        for tower in self._towers(bundle):
            if tower == "image":
                source = Tensor(name="input", dtype="float32", shape=(1, 3, size, size))
            else:
                source = Tensor(name="input", dtype="int64", shape=(1, length))
            cell = Cell(
                id=f"{name}.{tower}",
                label=f"{name} {tower}",
                competitor=False,
                variant=None if tower == "text" and manifest.checkpoint.text_form else manifest.variant,
                tower=tower,
                target=CHECKPOINT,
                precision="fp32",
                file=self._put(path, name),
                sha256=manifest.checkpoint.sha256,
                bytes=path.stat().st_size,
                runtime=CHECKPOINT,
                threads=1,
                options={} if preprocess is None else {"preprocess": preprocess.model_dump_json()},
                input=source,
                output=Tensor(name="output", dtype="float32", shape=(1, *_answer(bundle, tower))),
                golden=self._golden(bundle, tower, source),
                gate=_gate(manifest.gates, "fp32"),
            )
            yield from self._spread(cell, tuple(RuntimePlace(CHECKPOINT, form) for form in self._request.torch))

    def of_competitor(self, path: Path) -> Iterator[Cell]:
        """Yields a foreign file, compared with the first bundle that has comparable embeddings."""
        target = foreign_target(path)
        inputs, outputs = declared(path)
        fits = []
        for bundle in self._request.bundles:
            manifest = bundle.manifest
            size, length = manifest.preprocess.size, manifest.context_length
            fitted = fit(path, inputs, outputs, size, length, manifest.embed_dim)
            fits.append((bundle, replace(fitted, comparable=fitted.comparable and fitted.tower in manifest.towers)))
        bundle, fitted = next((pair for pair in fits if pair[1].comparable), fits[0])
        places = self._driver.places(target.name, {})
        name = self._name(path.stem)
        cell = Cell(
            id=f"{name}.{fitted.tower}",
            label=f"{path.name} {fitted.tower}",
            competitor=True,
            tower=fitted.tower,
            target=target.name,
            file=self._put(path, name),
            sha256=artifact_sha256(path),
            bytes=artifact_bytes(path),
            runtime=places[0].runtime,
            threads=1,
            input=fitted.input,
            output=fitted.output,
            golden=self._golden(bundle, fitted.tower, fitted.input) if fitted.comparable else None,
            gate=_loosest(bundle.manifest.gates) if fitted.comparable else None,
        )
        yield from self._spread(cell, places)

    def _spread(
        self, cell: Cell, places: tuple[RuntimePlace, ...], gate_at: Callable[[str], Gate] | None = None
    ) -> Iterator[Cell]:
        """Yields the cell at every place, with every number of threads.

        Args:
            gate_at: gate of a precision, for places with a precision of their own; None if the cell's gate holds
                everywhere.
        """
        for place in places:
            for threads in self._request.threads:
                changes = {
                    "id": f"{cell.id}.{place.label}.t{threads}",
                    "runtime": place.runtime,
                    "backend": place.backend,
                    "compute_units": place.compute_units,
                    "threads": threads,
                    "options": cell.options | dict(place.options),
                    "gate": _looser(cell.gate, gate_at(place.arithmetic))
                    if gate_at and cell.gate and place.arithmetic
                    else cell.gate,
                }
                yield with_fields(cell, **changes)

    def _towers(self, bundle: Bundle) -> list[TowerName]:
        return [tower for tower in bundle.manifest.towers if tower in self._request.towers]

    def _name(self, text: str) -> str:
        """Returns a name that is unique in this job."""
        base = _safe(text)
        numbered = (f"{base}+{number}" for number in count(2))
        name = next(name for name in chain([base], numbered) if name not in self._names)
        self._names.add(name)
        return name

    def _put(self, source: Path, group: str) -> str:
        """Puts a file or package, and weights next to it, into the folder; as links if the file system allows it."""
        destination = self._folder / "models" / group / _safe(source.name)
        if (
            self._sources.setdefault(destination, source) != source
        ):  # both towers have this file name, in different folders
            destination = destination.with_name(_safe(f"{source.parent.name}_{source.name}"))
        if not destination.exists():
            destination.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, destination, copy_function=link_or_copy)
            else:
                link_or_copy(str(source), str(destination))
        for companion in map(source.with_name, weights_beside(source.name)):
            if companion.is_file() and not (linked := destination.with_name(companion.name)).exists():
                link_or_copy(str(companion), str(linked))
        return destination.relative_to(self._folder).as_posix()

    def _golden(self, bundle: Bundle, tower: TowerName, source: Tensor, head: Head = EMBEDDING) -> Golden:
        reference = self._references[bundle.path]
        length, mark = source.shape[-1], ""
        if tower == "text" and length < bundle.manifest.context_length:  # keeps the inputs that fit
            ids = reference.inputs.ids
            shortest = fitting(ids, (length,), bundle.manifest.tokens)
            reference = reference.some("text", np.flatnonzero(shortest == length))
            ids, mark = reference.inputs.ids[:, :length], f".{length}tokens"
            reference = replace(reference, inputs=replace(reference.inputs, ids=ids))
        inputs = golden_inputs(reference, tower, source)
        if inputs.shape[1:] not in (source.shape, source.shape[1:]):
            raise InvalidInput(f"{bundle.golden}: its inputs do not fit the {tower} tower; export the bundle again")
        space = _safe(bundle.manifest.embedding_space)
        form = ".normalised" if head.normalised else ""
        if not head.names:
            outputs = head.scaled(reference.of(tower))
        elif reference.probabilities is None:
            raise InvalidInput(f"{bundle.golden} has no probabilities of its labels; export the bundle again")
        else:  # classifiers of one checkpoint may differ in labels
            outputs = reference.probabilities
            form = f".probabilities.{hashlib.sha256(outputs.tobytes()).hexdigest()[:16]}"
        kind = f"{inputs.dtype.name}{'.pictures' if inputs.shape[-1] == COLOURS else ''}"
        file = f"golden/{space}.{tower}{form}{mark}.{kind}.inputs.bin"
        golden = Golden(inputs=write_raw(inputs, self._folder, file))
        self.expected[golden.inputs.file] = outputs
        return golden


def _contexts(cell: Cell, bundle: Bundle, contexts: Sequence[int]) -> Iterator[Cell]:
    """Yields a text tower's cell at each of its contexts, the longest first; any other cell unchanged."""
    if not contexts:
        yield cell
    for length in reversed(contexts):
        changes = {
            "id": f"{cell.id}.{length}tokens",
            "label": f"{bundle.path.name}, {length} tokens {cell.tower}",
            "input": with_fields(cell.input, shape=(1, length)),
        }
        yield with_fields(cell, **changes)


def _answer(bundle: Bundle, tower: TowerName) -> tuple[int, ...]:
    """Returns the shape of one answer of the checkpoint: that of the tokens, or of an embedding or logits."""
    shape = bundle.manifest.towers[tower].output.shape[1:] if tower in bundle.manifest.towers else ()
    return shape if len(shape) > 1 else (bundle.manifest.embed_dim,)


def _tensor(entry: TensorEntry, size: int) -> Tensor:
    """Returns a tensor without free dimensions: the batch is 1, and pictures of any size get the size of the golden
    ones."""
    shape = (size, size, 3) if entry.any_size else tuple(length or 1 for length in entry.shape)
    return Tensor.model_validate({"name": entry.name, "dtype": entry.dtype, "shape": shape})


def _gate(gates: Gates, precision: str, probabilities: bool = False) -> Gate:
    bound = gates.shipped(precision, probabilities=probabilities)
    return Gate.model_validate({"metric": bound.metric, "bound": bound.value, "snr_db": bound.snr_db})


def _looser(gate: Gate, rounded: Gate) -> Gate:
    """Returns the gate for a place with a precision of its own: that precision's, unless the file's is looser."""
    if rounded.metric == gate.metric:
        least = gate.metric == "cosine"
        return min(gate, rounded, key=lambda one: one.bound if least else -one.bound)
    return rounded if rounded.metric == "cosine" else gate


def _loosest(gates: Gates) -> Gate:
    """Returns the gate for a file of unknown precision: the lowest cosine that any precision may have."""
    gates_of_all = (_gate(gates, precision) for precision in PRECISIONS)
    bound = min(gate.bound for gate in gates_of_all if gate.metric == "cosine")
    return Gate(metric="cosine", bound=bound)


def _accuracy(bundle: Bundle) -> Accuracy | None:
    """Returns the top-1 that `export` measured; None if there is none."""
    manifest = bundle.manifest
    measured = (check.figures for check in bundle.parity if check.step == "task" and check.figures)
    figures = next(measured, None)
    if figures is None or "top1" not in figures:
        return None
    dataset = f"{manifest.variant}'s held-out set" if manifest.checkpoint.builtin else "the dataset of its export"
    return Accuracy(metric="zero-shot top-1", dataset=dataset, percent=figures["top1"])


def _resizing(bundle: Bundle, tower: TowerName) -> str | None:
    """Returns the deviation of the tower's own resizing from Pillow's, with its cost; None if it was not measured."""
    checks = (check for check in bundle.parity if (check.step, check.tower) == ("pictures", tower))
    check = next(checks, None)
    return None if check is None else f"{check.status}: {check.describe()}"


def _safe(text: str) -> str:
    """Returns the text with everything except letters, digits, dot, underscore, plus and minus as underscores."""
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", text).lstrip("._+-")
    return name[:60] or "unnamed"
