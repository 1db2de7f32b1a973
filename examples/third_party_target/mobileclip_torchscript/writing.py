"""A tower as a TorchScript file: traced, and written without anything of this machine."""

import json
import re
import zipfile
from dataclasses import asdict
from pathlib import Path

import torch

from mobileclip_deploy.targets import TensorInfo, TowerJob
from mobileclip_deploy.targets.quiet import conversion
from mobileclip_torchscript.archive import PORTS, packed

__all__ = ["write_module"]

# A trace of one example would take its batch for a constant here and there.
TRACE_BATCH = 2
NUMBERED = re.compile(rb"___torch_mangle_(\d+)")


def write_module(job: TowerJob, path: Path, ports: tuple[TensorInfo, TensorInfo]) -> None:
    """Traces a tower and writes it. The file also says what goes in and comes out, which TorchScript does not.

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
        with zipfile.ZipFile(path) as archive:
            entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
        path.write_bytes(packed(_counted_from_nothing(_without_places(entries))))


def _forget_classes() -> None:
    """Makes torch forget which classes it has traced in this process: they decide what those of the next trace are
    called. As torch/testing/_internal/jit_utils.py does it; modules that exist keep their types."""
    torch._C._jit_clear_class_registry()
    torch.jit._recursive.concrete_type_store = torch.jit._recursive.ConcreteTypeStore()
    torch.jit._state._clear_class_state()


def _without_places(entries: dict[str, bytes]) -> dict[str, bytes]:
    """Returns the entries without the paths of this machine's code."""
    named_after_places = ".data/serialization_id"
    return {
        name: content
        for name, content in entries.items()
        if not name.endswith(".debug_pkl") and name != named_after_places
    }


def _counted_from_nothing(entries: dict[str, bytes]) -> dict[str, bytes]:
    """Renumbers classes whose names occur several times, since torch counts those of the whole process."""
    order = {number: place for place, number in enumerate(dict.fromkeys(NUMBERED.findall(entries["data.pkl"])))}

    def renamed(text: bytes) -> bytes:
        return NUMBERED.sub(lambda found: b"___torch_mangle_%d" % order.setdefault(found[1], len(order)), text)

    return {
        renamed(name.encode()).decode(): renamed(content) if name.endswith((".py", "data.pkl")) else content
        for name, content in sorted(entries.items())
    }
