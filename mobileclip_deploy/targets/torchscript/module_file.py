"""A tower as a TorchScript file: traced, written without anything of this machine, and read back."""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.errors import InvalidInput, RuntimeFailed
from mobileclip_deploy.targets.quiet import conversion
from mobileclip_deploy.targets.storage import StoredWeight, as_float
from mobileclip_deploy.targets.values import TensorInfo, TowerJob

__all__ = ["TorchScriptRunner", "described", "load", "operators", "read_weights", "write_module"]

PORTS = "tensors.json"
# A trace of one example would take its batch for a constant here and there.
TRACE_BATCH = 2
BATCH = 16
NUMBERED = re.compile(rb"___torch_mangle_(\d+)")
FIRST_DATE = (1980, 1, 1, 0, 0, 0)


def write_module(job: TowerJob, path: Path, ports: tuple[TensorInfo, TensorInfo]) -> None:
    """Trace a tower and write it. The file also says what goes in and comes out, which TorchScript does not.

    Raises:
        ExportError: torch refused the tower.
    """
    dtype = getattr(torch, ports[0].dtype)
    example = job.example.to(dtype).expand(TRACE_BATCH, *job.example.shape[1:]).contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    with conversion(f"TorchScript trace of the {job.tower} tower"), torch.no_grad():
        _forget_classes()
        traced = torch.jit.trace(job.module, (example,), check_trace=False)
        torch.jit.save(traced, str(path), _extra_files={PORTS: json.dumps([asdict(info) for info in ports])})
        _without_places(path)


def _forget_classes() -> None:
    """Have torch forget which classes it has traced in this process: they decide what those of the next trace are
    called. As torch/testing/_internal/jit_utils.py does it; modules that exist keep their types."""
    torch._C._jit_clear_class_registry()
    torch.jit._recursive.concrete_type_store = torch.jit._recursive.ConcreteTypeStore()
    torch.jit._state._clear_class_state()


def _without_places(path: Path) -> None:
    """Write the archive once more without where on this machine each operation's code stands, and under one name."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in sorted(archive.namelist()) if not name.endswith(".debug_pkl")}
    entries = _counted_from_nothing(entries)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            inside = name.partition("/")[2]
            if inside == ".data/serialization_id":  # of the names of places, among others
                continue
            archive.writestr(zipfile.ZipInfo(f"tower/{inside}", FIRST_DATE), content)


def _counted_from_nothing(entries: dict[str, bytes]) -> dict[str, bytes]:
    """The numbers behind names of classes that occur several times: torch counts all of a process."""
    state = next(content for name, content in entries.items() if name.endswith("/data.pkl"))
    order = {number: place for place, number in enumerate(dict.fromkeys(NUMBERED.findall(state)))}

    def renamed(text: bytes) -> bytes:
        return NUMBERED.sub(lambda found: b"___torch_mangle_%d" % order.setdefault(found[1], len(order)), text)

    told = {name for name in entries if name.endswith((".py", "/data.pkl"))}
    changed = {
        renamed(name.encode()).decode(): renamed(content) if name in told else content
        for name, content in entries.items()
    }
    return dict(sorted(changed.items()))


def load(path: Path, extra: dict[str, Any] | None = None) -> Any:
    """A file as torch's module.

    Raises:
        InvalidInput: it is damaged.
    """
    try:
        return torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    except (RuntimeError, OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or ["damaged"])[0]
        raise InvalidInput(f"{path} is not a readable TorchScript file: {first}") from error


def described(path: Path) -> tuple[TensorInfo, TensorInfo]:
    """Input and output as the file says.

    Raises:
        InvalidInput: it is damaged, or another program wrote it.
    """
    extra: dict[str, Any] = {PORTS: ""}
    load(path, extra)
    try:
        source, result = (
            TensorInfo(**{**port, "shape": tuple(port["shape"]), "range": port["range"] and tuple(port["range"])})
            for port in json.loads(extra[PORTS])
        )
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInput(f"{path} does not say what goes in and comes out; another program wrote it") from error
    return source, result


def operators(path: Path) -> dict[str, int]:
    """How often each operation occurs in the whole graph.

    Raises:
        InvalidInput: the file is damaged.
    """
    kinds = (node.kind() for node in load(path).inlined_graph.nodes())
    return dict(Counter(kind.removeprefix("aten::") for kind in kinds if kind.startswith("aten::")))


def read_weights(path: Path) -> tuple[StoredWeight, ...]:
    """The weights of convolutions, products and the table, by their names in the module.

    Raises:
        InvalidInput: the file is damaged.
    """
    return tuple(
        as_float(name, value.detach().numpy())
        for name, value in load(path).named_parameters()
        if value.ndim >= 2 and name.endswith("weight")
    )


class TorchScriptRunner:
    """Runs a file by torch.

    Raises:
        InvalidInput: it is damaged.
        RuntimeFailed: it fails on valid inputs.
    """

    def __init__(self, path: Path) -> None:
        self._module = load(path).eval()
        self.engine = f"TorchScript, torch {torch.__version__}"

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        try:
            with torch.no_grad():
                parts = [self._module(part) for part in torch.from_numpy(inputs).split(BATCH)]
        except RuntimeError as error:
            first = (str(error).strip().splitlines() or ["failed"])[-1]
            raise RuntimeFailed(f"TorchScript failed: {first}") from error
        found: npt.NDArray[np.float32] = torch.cat(parts).numpy()
        return found
