"""From bundles, competitors and a driver to a plan: a folder with the job and every file it names."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mobileclip_deploy.benchmark.driver import Driver, Place
from mobileclip_deploy.benchmark.foreign import SUFFIXES, Declared, Fitted, declared, fit
from mobileclip_deploy.benchmark.golden import write_golden
from mobileclip_deploy.benchmark.job import Accuracy, Cell, Gate, Golden, Job, Protocol, Tensor, Turn
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.bundle.manifest import TensorEntry
from mobileclip_deploy.errors import InvalidInput, NotRun
from mobileclip_deploy.files import artifact_bytes, artifact_sha256
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.parity.gates import Gates
from mobileclip_deploy.parity.reference import Reference

__all__ = ["TORCH_FORMS", "Request", "build_job"]

TORCH_FORMS = ("unfolded", "folded", "compiled")


@dataclass(frozen=True)
class Request:
    """What is to be measured.

    Args:
        against: foreign .onnx and .pte files.
        torch: of `TORCH_FORMS`, the checkpoint itself in these, from `checkpoint_of`.
        checkpoint_of: the source of a bundle; None when it is not at hand.
    """

    bundles: tuple[Bundle, ...]
    against: tuple[Path, ...] = ()
    torch: tuple[str, ...] = ()
    towers: tuple[TowerName, ...] = ("image", "text")
    threads: tuple[int, ...] = (1,)
    checkpoint_of: Callable[[Bundle], Path | None] = lambda _: None


def build_job(
    request: Request, driver: Driver, protocol: Protocol, seed: int, run_id: str, folder: Path
) -> tuple[Job, tuple[str, ...]]:
    """Put every file below `folder`, and say what is to be run, in an order that `seed` shuffles.

    Returns:
        The job, and a line for everything that was asked for and cannot be run on this device.

    Raises:
        NotRun: nothing of it can.
        InvalidInput: a bundle, its golden file or a competitor cannot be used.
    """
    builder = _Builder(request, driver, folder)
    cells = builder.cells()
    if not cells:
        raise NotRun("; ".join(builder.left_out) or "the bundles hold none of the towers asked for")
    job = Job(
        schema_version=1,
        run_id=run_id,
        seed=seed,
        protocol=protocol,
        cells=tuple(cells),
        order=_shuffled([cell.id for cell in cells], protocol.rounds, seed),
    )
    return job, tuple(dict.fromkeys(builder.left_out))


def _shuffled(cells: Sequence[str], rounds: int, seed: int) -> tuple[Turn, ...]:
    """Round by round, the cells of each in an order of its own."""
    generator = random.Random(seed)
    order = []
    for number in range(rounds):
        names = list(cells)
        generator.shuffle(names)
        order += [Turn(cell=name, round=number) for name in names]
    return tuple(order)


class _Builder:
    def __init__(self, request: Request, driver: Driver, folder: Path) -> None:
        self._request, self._driver, self._folder = request, driver, folder
        self._ids: set[str] = set()
        self._references = {bundle.path: Reference.read(bundle.golden) for bundle in request.bundles}
        self.left_out: list[str] = []

    def cells(self) -> list[Cell]:
        found: list[Cell] = []
        for bundle in self._request.bundles:
            found += self._bundle_cells(bundle)
        for path in self._request.against:
            found += self._foreign_cells(path)
        sources: dict[str, Bundle] = {}
        for bundle in self._request.bundles if self._request.torch else ():
            sources.setdefault(bundle.manifest.checkpoint.sha256, bundle)
        for bundle in sources.values():
            found += self._torch_cells(bundle)
        return found

    def _bundle_cells(self, bundle: Bundle) -> Iterable[Cell]:
        manifest = bundle.manifest
        try:
            places = self._driver.places(manifest.target, manifest.options)
        except NotRun as reason:
            self.left_out.append(f"{bundle.path.name}: {reason}")
            return
        folder = self._name(bundle.path.name)
        for tower in self._towers(bundle):
            entry = manifest.towers[tower]
            artifact = bundle.artifact(tower)
            source = _tensor(entry.input)
            metric, bound = Gates().shipped(entry.precision)
            common = {
                "label": f"{bundle.path.name} {tower}",
                "competitor": False,
                "bundle": bundle.path.name,
                "variant": manifest.variant,
                "tower": tower,
                "target": manifest.target,
                "precision": entry.precision,
                "accuracy": _accuracy(bundle),
                "file": self._put(artifact, f"models/{folder}/{_safe(artifact.name)}"),
                "sha256": entry.sha256,
                "bytes": entry.bytes,
                "input": source,
                "output": _tensor(entry.output),
                "options": {"function": entry.function} if entry.function else {},
                "golden": self._golden(bundle, tower, source),
                "gate": Gate.model_validate({"metric": metric, "bound": bound}),
            }
            yield from self._spread(f"{folder}.{tower}", places, common)

    def _torch_cells(self, bundle: Bundle) -> Iterable[Cell]:
        try:
            self._driver.places("torch", {})
        except NotRun as reason:
            self.left_out.append(f"torch: {reason}")
            return
        manifest = bundle.manifest
        path = self._request.checkpoint_of(bundle)
        if path is None:
            wanted = manifest.checkpoint.file
            self.left_out.append(f"torch: the checkpoint {wanted} is not at hand; give it with --checkpoint")
            return
        name = self._name(f"{manifest.variant}-torch-fp32")
        for tower in self._towers(bundle):
            dtype, shape = _torch_input(bundle, tower)
            source = Tensor.model_validate({"name": "input", "dtype": dtype, "shape": shape})
            metric, bound = Gates().shipped("fp32")
            common = {
                "label": f"{name} {tower}",
                "competitor": False,
                "variant": manifest.variant,
                "tower": tower,
                "target": "torch",
                "precision": "fp32",
                "file": self._put(path, f"models/{name}/{_safe(path.name)}"),
                "sha256": manifest.checkpoint.sha256,
                "bytes": path.stat().st_size,
                "input": source,
                "output": Tensor(name="output", dtype="float32", shape=(1, manifest.embed_dim)),
                "golden": self._golden(bundle, tower, source),
                "gate": Gate.model_validate({"metric": metric, "bound": bound}),
            }
            for form in self._request.torch:
                yield from self._spread(f"{name}.{tower}", (Place("torch", form),), common)

    def _foreign_cells(self, path: Path) -> Iterable[Cell]:
        runtime = SUFFIXES.get(path.suffix)
        inputs, outputs = declared(path)
        fits = [(bundle, _fit(path, bundle, inputs, outputs)) for bundle in self._request.bundles]
        bundle, fitted = next((pair for pair in fits if pair[1].comparable), fits[0])
        target = "onnx" if runtime == "onnxruntime" else "executorch"
        try:
            places = self._driver.places(target, {})
        except NotRun as reason:
            self.left_out.append(f"{path.name}: {reason}")
            return
        name = self._name(path.stem)
        for companion in (path.with_name(f"{path.name}.data"), path.with_name(f"{path.name}_data")):
            if companion.is_file():  # weights that an .onnx keeps beside it
                self._put(companion, f"models/{name}/{companion.name}")
        common = {
            "label": f"{path.name} {fitted.tower}",
            "competitor": True,
            "tower": fitted.tower,
            "target": target,
            "file": self._put(path, f"models/{name}/{_safe(path.name)}"),
            "sha256": artifact_sha256(path),
            "bytes": artifact_bytes(path),
            "input": fitted.input,
            "output": fitted.output,
            "golden": self._golden(bundle, fitted.tower, fitted.input) if fitted.comparable else None,
            "gate": Gate(metric="cosine", bound=0.98) if fitted.comparable else None,
        }
        yield from self._spread(f"{name}.{fitted.tower}", places, common)

    def _spread(self, name: str, places: tuple[Place, ...], common: dict[str, Any]) -> Iterable[Cell]:
        for place in places:
            for threads in self._request.threads:
                values = common | {
                    "id": f"{name}.{place.label}.t{threads}",
                    "runtime": place.runtime,
                    "backend": place.backend,
                    "compute_units": place.compute_units,
                    "threads": threads,
                    "options": common.get("options", {}) | dict(place.options),
                }
                yield Cell.model_validate(values)

    def _towers(self, bundle: Bundle) -> list[TowerName]:
        return [tower for tower in bundle.manifest.towers if tower in self._request.towers]

    def _name(self, text: str) -> str:
        """A name that no other subject of this job has."""
        base = name = _safe(text)
        number = 1
        while name in self._ids:
            number += 1
            name = f"{base}+{number}"
        self._ids.add(name)
        return name

    def _put(self, source: Path, file: str) -> str:
        """A file or package below the job's folder; a link where the file system allows it."""
        destination = self._folder / file
        if not destination.exists():
            destination.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, destination, copy_function=_link)
            else:
                _link(str(source), str(destination))
        return file

    def _golden(self, bundle: Bundle, tower: TowerName, source: Tensor) -> Golden:
        reference = self._references[bundle.path]
        if reference.inputs.of(tower).shape[1:] != source.shape[1:]:
            raise InvalidInput(f"{bundle.golden}: its inputs do not fit the {tower} tower; export the bundle again")
        space = _safe(bundle.manifest.embedding_space)
        return write_golden(reference, tower, source.dtype, self._folder, f"{space}.{tower}")


def _fit(path: Path, bundle: Bundle, inputs: tuple[Declared, ...], outputs: tuple[Declared, ...]) -> Fitted:
    """How a foreign file compares with a bundle."""
    manifest = bundle.manifest
    size, length = manifest.preprocess.size, manifest.tokenizer.context_length
    fitted = fit(path, inputs, outputs, size, length, manifest.embed_dim)
    return replace(fitted, comparable=fitted.comparable and fitted.tower in manifest.towers)


def _tensor(entry: TensorEntry) -> Tensor:
    shape = tuple(size or 1 for size in entry.shape)
    return Tensor.model_validate({"name": entry.name, "dtype": entry.dtype, "shape": shape})


def _accuracy(bundle: Bundle) -> Accuracy | None:
    """The top-1 that `export` measured, where it did."""
    manifest = bundle.manifest
    measured = (check.figures for check in manifest.parity if check.step == "task" and check.figures)
    figures = next(measured, None)
    if figures is None or "top1" not in figures:
        return None
    dataset = f"{manifest.variant}'s held-out set" if manifest.checkpoint.builtin else "the dataset of its export"
    return Accuracy(metric="zero-shot top-1", dataset=dataset, percent=figures["top1"])


def _torch_input(bundle: Bundle, tower: TowerName) -> tuple[str, tuple[int, ...]]:
    manifest = bundle.manifest
    if tower == "image":
        return "float32", (1, 3, manifest.preprocess.size, manifest.preprocess.size)
    return "int64", (1, manifest.tokenizer.context_length)


def _safe(text: str) -> str:
    """Letters, digits, dot, underscore, plus and minus; the rest becomes an underscore."""
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", text).lstrip("._+-")
    return name[:60] or "unnamed"


def _link(source: str, destination: str) -> None:
    """A hard link keeps the file as it is now, whatever is exported over it; another file system needs a copy."""
    try:
        os.link(os.path.realpath(source), destination)
    except OSError:
        shutil.copy2(source, destination)
