"""From a tower to the bytes of a .pte: exported by torch.export, lowered to a backend, memory planned; and its
ETRecord, what ExecuTorch's developer tools need to lead a .pte back to the source, without this machine in it."""

from __future__ import annotations

import re
import site
import sysconfig
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mobileclip_deploy.errors import refusing
from mobileclip_deploy.targets.artifact import Attached, Origin
from mobileclip_deploy.targets.executorch.backends import ETRECORD, PORTS, Backend, FreeShape, LoweringJob
from mobileclip_deploy.targets.executorch.model_schema import METHOD, model_schema
from mobileclip_deploy.targets.values import Expected

# Most prompts where the batch is left free: more than most sets of labels, and little enough memory (S0: 32 MB).
LARGEST_BATCH = 64


def lower(module: nn.Module, job: LoweringJob, backend: Backend, path: Path) -> bytes:
    """The .pte of a module that is written for the backend; the same module gives the same bytes.

    Writes the ETRecord of `path` where it is wanted.
    """
    from executorch.exir import to_edge_transform_and_lower

    schema = model_schema(*PORTS.of(job.variant, job.tower, len(job.labels)), job.free, LARGEST_BATCH)
    with torch.no_grad(), backend.lowering():
        program = traced(module, job.example, job.free)
        edge = to_edge_transform_and_lower(
            program,
            partitioner=[backend.partitioner(job)],
            constant_methods={METHOD: schema} if job.options.model_schema else None,
            generate_etrecord=job.options.etrecord,
        )
        lowered = edge.to_executorch()
    if job.options.etrecord:
        write_etrecord(lowered, path.with_suffix(ETRECORD))
    return bytes(lowered.buffer)


def traced(module: nn.Module, example: Tensor, free: FreeShape) -> torch.export.ExportedProgram:
    """The module as torch.export sees it on an input [1, ...], of which this is free; a batch up to `LARGEST_BATCH`.

    The upper bound is lost when the example is smaller than it: the example is repeated as often as the bound says.
    """
    sizes: tuple[dict[int, Any], ...] | None = None
    if free.shortest is not None:
        sizes = ({1: torch.export.Dim("tokens", min=free.shortest, max=example.shape[1])},)
    elif free.batch:
        sizes = ({0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)},)
        example = example.repeat(LARGEST_BATCH, *[1] * (example.dim() - 1))
    return torch.export.export(module, (example,), dynamic_shapes=sizes, strict=False)


# The earliest that a zip file can name.
EPOCH = (1980, 1, 1, 0, 0, 0)


def write_etrecord(lowered: Any, path: Path) -> None:
    """Write the ETRecord of an `ExecutorchProgramManager`: its stack traces name files within their packages."""
    whole = path.with_suffix(".whole")
    try:
        lowered.get_etrecord().save(str(whole))
        with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                target.writestr(zipfile.ZipInfo(name, EPOCH), _without_roots(source.read(name)))
    finally:
        whole.unlink(missing_ok=True)


def _without_roots(data: bytes) -> bytes:
    if not data.startswith(b"{"):  # weights and inputs; programs and maps are JSON
        return data
    paths = sysconfig.get_paths()
    own = str(Path(__file__).parents[3])
    roots = {own, *site.getsitepackages(), paths["purelib"], paths["platlib"], paths["stdlib"]}
    for root in sorted(roots, key=len, reverse=True):  # one may lie inside another
        data = data.replace(f"{root}/".encode(), b"")
    return data


# Where graphs lay in the memory of the process that wrote them: a part of its own, and in what nodes say of their
# origin.
ADDRESS = "export_graph_id"
ADDRESSES = re.compile(rb'(\\"graph_id\\": )\d+')


class EtRecord(Attached):
    """An ETRecord: part by part what a conversion writes now."""

    by_conversion = True
    tolerates = False

    def write(self, artifact: Path, expected: Expected) -> None:
        """The conversion has written it."""

    def difference(self, origin: Origin) -> str | None:
        fresh = origin.converted().with_suffix(ETRECORD)
        kinds = OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error
        told = f"{self.path} is not a readable ETRecord"
        with refusing(told, *kinds), zipfile.ZipFile(self.path) as own, zipfile.ZipFile(fresh) as wanted:
            return _differing(own, wanted)


def _differing(own: zipfile.ZipFile, wanted: zipfile.ZipFile) -> str | None:
    """The first part that is another one."""
    if sorted(own.namelist()) != sorted(wanted.namelist()):
        return f"it holds {', '.join(own.namelist())}; a conversion gives {', '.join(wanted.namelist())}"
    for name in (name for name in wanted.namelist() if name != ADDRESS):
        large = own.getinfo(name).file_size > 2 * wanted.getinfo(name).file_size  # nor is it unpacked then
        if large or _without_addresses(own.read(name)) != _without_addresses(wanted.read(name)):
            return f"{name} is not what a conversion gives"
    return None


def _without_addresses(part: bytes) -> bytes:
    return ADDRESSES.sub(rb"\g<1>0", part) if part.startswith(b"{") else part
