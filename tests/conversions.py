"""Conversions that were made before, kept on disk by all that decides them: half of the suite's time was making them.

A test that looks at what comes after a conversion takes the artifact that the same conversion gave, in whichever
process of this run or of an earlier one. A file of tests that compares conversions is marked `converts`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from building import ROOT, files_digest, locked
from packaging.requirements import Requirement
from pydantic import BaseModel

from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.evaluation import looks
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.evaluate import IN_FULL, Measurement, Measuring, measure
from mobileclip_deploy.parity import Check
from mobileclip_deploy.pictures.embedder import Embedder
from mobileclip_deploy.targets import Target, TowerJob, targets
from mobileclip_deploy.targets.values import Shared
from mobileclip_deploy.verify import opening
from mobileclip_deploy.verify.checks import sampled

STORED = [
    sys.executable,
    "-c",
    f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from conversions import ROOT, Store
from mobileclip_deploy.cli import main
store = Store.open(ROOT / "build" / "tests")
with store.conversions(), store.embeddings():
    main()
""",
]
"""The command line in a process of its own that takes from the store what was made before, and leaves what it makes."""
DAY = 24 * 60 * 60


@functools.cache
def installed() -> tuple[str, ...]:
    """Names and versions of the packages that `make test` installs. What other targets of the Makefile install decides
    nothing about a conversion."""
    found, asked = dict[tuple[str, str], str](), [Requirement("mobileclip-deploy[test]")]
    while asked:
        wanted = asked.pop()
        for extra in {"", *wanted.extras} - {extra for name, extra in found if name == wanted.name}:
            with contextlib.suppress(PackageNotFoundError):
                own = distribution(wanted.name)
                found[wanted.name, extra] = f"{own.name} {own.version}"
                needs = map(Requirement, own.requires or ())
                asked += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return tuple(sorted({*found.values()}))


@dataclass(frozen=True)
class Store:
    """A folder for what follows from the sources of the package, its models and the packages installed."""

    folder: Path

    @classmethod
    def open(cls, place: Path) -> Store:
        """The folder inside `place` for the sources as they are now; those of a day ago or more are cleared away."""
        store = cls(place / files_digest(ROOT / "mobileclip_deploy", ROOT / "models", packages=installed()))
        store.folder.mkdir(parents=True, exist_ok=True)
        (store.folder / "used").touch()
        for other in place.iterdir():
            used = other / "used"
            if other != store.folder and used.exists() and time.time() - used.stat().st_mtime > DAY:
                shutil.rmtree(other, ignore_errors=True)
        return store

    @contextlib.contextmanager
    def conversions(self) -> Iterator[None]:
        """In here every target takes an artifact that it wrote before for the same job instead of writing it anew.

        Not Qualcomm's: its files name one another, so that they are of no use under another name.
        """
        kinds = {type(target) for target in targets().values() if target.name != "qnn"}
        with contextlib.ExitStack() as patches:
            for kind in kinds:
                if not hasattr(kind.write, "__wrapped__"):  # not in one within the other
                    patches.enter_context(mock.patch.object(kind, "write", self._stored(kind.write)))
            yield

    @contextlib.contextmanager
    def embeddings(self) -> Iterator[None]:
        """In here `verify` takes what the same embedder answered before to the images that it measures accuracy on.

        Of each number of threads apart: it decides in which order sums are taken.
        """
        cache = self.folder / f"embeddings-{torch.get_num_threads()}"

        def stored(
            embedder: Embedder, dataset: Dataset, how: Measuring = IN_FULL, progress: Progress = silent
        ) -> Measurement:
            return measure(embedder, dataset, how=replace(how, cache=cache), progress=progress)

        with contextlib.ExitStack() as patches:
            for room in (looks, opening, sampled):
                patches.enter_context(mock.patch.object(room, "measure", stored))
            yield

    def _stored(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """`Target.write`, which writes at `path` and beside it, run once for the same target, options and job."""

        @functools.wraps(method)
        def write(target: Target, job: TowerJob, path: Path) -> tuple[Check, ...]:
            key = content([type(target), vars(target), job, path.suffix])
            entry = self.folder / "conversions" / key
            with locked(self.folder / "conversions" / f"{key}.lock"):
                if not entry.exists():
                    making = entry.with_suffix(".making")
                    shutil.rmtree(making, ignore_errors=True)
                    (making / "files").mkdir(parents=True)
                    sharing = replace(job, shared=self._shared_with(target, job))
                    checks = method(target, sharing, making / "files" / f"artifact{path.suffix}")
                    texts = [check.model_dump_json() for check in checks]
                    (making / "checks").write_text("\n".join(texts), encoding="utf-8")
                    making.rename(entry)
            path.parent.mkdir(parents=True, exist_ok=True)
            for file in (entry / "files").iterdir():
                copy = shutil.copytree if file.is_dir() else shutil.copy
                copy(file, path.parent / file.name.replace("artifact", path.stem, 1))
            lines = (entry / "checks").read_text(encoding="utf-8").splitlines()
            return tuple(map(Check.model_validate_json, lines))

        return write

    def _shared_with(self, target: Target, job: TowerJob) -> Shared:
        """What conversions of the same tower to other precisions have made: a bundle shares it with its twin alone."""
        alike = _alike(target, job)
        found = _SHARED.pop(alike, None)
        if found is None or _alike(target, found[0]) != alike:  # what was made holds weights, which were changed since
            small = sum(value.numel() for value in job.module.parameters()) < SMALL
            found = job, _Kept(self.folder / "conversions" / f"{alike}.onnx") if small else Shared()
        _SHARED[alike] = found
        for oldest in list(_SHARED)[:-KEPT]:
            del _SHARED[oldest]
        return found[1]


_SHARED: dict[str, tuple[TowerJob, Shared]] = {}
"""What conversions of this process have in common, the last used at the end."""
KEPT = 4
SMALL = 10_000_000
"""Parameters of a tower whose graph takes little room on disk."""


class _Kept(dict[str, Any]):
    """`Shared`, whose graph of ONNX is kept in a file, too: torch takes two seconds to give one."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __contains__(self, what: object) -> bool:
        if what == "onnx" and not super().__contains__(what) and self.file.exists():
            import onnx
            import onnx_ir as ir

            proto = onnx.load(self.file)
            model = ir.from_proto(proto)
            for item, stored in _told(model, proto):
                item.doc_string = stored.doc_string if stored.HasField("doc_string") else None
            super().__setitem__("onnx", model)
        return super().__contains__(what)

    def __setitem__(self, what: str, made: Any) -> None:
        super().__setitem__(what, made)
        if what == "onnx":
            import onnx_ir as ir

            proto = ir.to_proto(made)
            for item, stored in _told(made, proto):  # onnx_ir leaves out texts that are empty
                if item.doc_string is not None:
                    stored.doc_string = item.doc_string
            part = self.file.with_suffix(f".{os.getpid()}")  # two processes may both write it: the same graph
            part.write_bytes(proto.SerializeToString())
            part.replace(self.file)


def _told(model: Any, proto: Any) -> Iterator[tuple[Any, Any]]:
    """What may have a text in a model of onnx_ir, each beside its message of ONNX."""
    own, other = model.graph, proto.graph
    yield from ((model, proto), (own, other))
    for items, stored in ((own, other.node), (own.inputs, other.input), (own.outputs, other.output)):
        yield from zip(items, stored, strict=True)
    yield from zip(own.initializers.values(), other.initializer, strict=True)


def _alike(target: Target, job: TowerJob) -> str:
    """A hash that all jobs have that may share. It leaves out what no shared part of a conversion knows of."""
    return content([type(target), vars(target), replace(job, precision="", calibration=None, four_bit=frozenset())])


def content(value: Any) -> str:
    """A hash of everything in a value; of what it does not know it refuses to make one."""
    digest = hashlib.sha256()
    _feed(digest.update, value)
    return digest.hexdigest()[:32]


def _feed(update: Callable[[bytes], None], value: Any) -> None:
    update(f"<{type(value).__qualname__}>".encode())
    if isinstance(value, torch.Tensor):
        _feed(update, value.detach().contiguous().cpu().numpy())
    elif isinstance(value, np.ndarray):
        update(f"{value.dtype} {value.shape}".encode())
        update(np.ascontiguousarray(value).data)
    elif isinstance(value, torch.nn.Module):
        # What it computes, were a test to change that; its parameters, buffers and modules, and what else is set on it.
        update(type(value).forward.__code__.co_code)
        for name, held in sorted(vars(value).items()):
            if not name.endswith("_hooks") and name not in ("_backward_pre_hooks", "_is_full_backward_hook"):
                _feed(update, [name, held])
    elif isinstance(value, BaseModel):
        update(value.model_dump_json().encode())
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            if field.compare:  # what equal values may differ in decides nothing, such as what a job shares with others
                _feed(update, [field.name, getattr(value, field.name)])
    elif isinstance(value, Mapping):
        for name, held in value.items():
            _feed(update, [name, held])
    elif isinstance(value, Set):
        _feed(update, sorted(value))
    elif isinstance(value, (list, tuple)):
        for held in value:
            _feed(update, held)
    elif (isinstance(value, type) or callable(value)) and "<" not in value.__qualname__:  # no lambda
        update(f"{value.__module__}.{value.__qualname__}".encode())
    elif value is None or isinstance(value, (str, int, float, bytes, Path, torch.dtype, torch.Size)):
        update(repr(value).encode())
    elif type(value).__module__.startswith("mobileclip_deploy"):  # a backend: what it is, and what is set on it
        _feed(update, vars(value))
    else:
        raise TypeError(f"no hash of a {type(value)}: {value!r}")
