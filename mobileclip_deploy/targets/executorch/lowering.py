"""Lowering of a tower to the bytes of a .pte: exported by torch.export, lowered to a backend, memory planned.

Also writes the ETRecord, with which ExecuTorch's developer tools map a .pte to its source; paths of this machine are
removed.
"""

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

from mobileclip_deploy.errors import reraising
from mobileclip_deploy.targets.artifact import Attached, Origin
from mobileclip_deploy.targets.executorch.backends import ETRECORD, PORTS, Backend, FreeShape, LoweringJob
from mobileclip_deploy.targets.executorch.model_schema import METHOD, model_schema
from mobileclip_deploy.targets.values import Expected

# Largest free batch of prompts: more than most sets of labels, and little memory (S0: 32 MB).
LARGEST_BATCH = 64


def lower(module: nn.Module, job: LoweringJob, backend: Backend, path: Path) -> bytes:
    """Returns the .pte of a module that was rewritten for the backend; the same module gives the same bytes.

    Writes the ETRecord of `path` if the options request it.
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
    """Exports the module with torch.export on an input [1, ...] with these free dimensions; a batch is up to
    `LARGEST_BATCH`.

    torch.export loses an upper bound above the example's size, so the example is repeated to the full batch.
    """
    sizes: tuple[dict[int, Any], ...] | None = None
    if free.shortest is not None:
        sizes = ({1: torch.export.Dim("tokens", min=free.shortest, max=example.shape[1])},)
    elif free.batch:
        sizes = ({0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)},)
        example = example.repeat(LARGEST_BATCH, *[1] * (example.dim() - 1))
    return torch.export.export(module, (example,), dynamic_shapes=sizes, strict=False)


# The earliest date that a zip file can store.
EPOCH = (1980, 1, 1, 0, 0, 0)


def write_etrecord(lowered: Any, path: Path) -> None:
    """Writes the ETRecord of an `ExecutorchProgramManager`, with file names in stack traces relative to their
    packages."""
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
    package_root = str(Path(__file__).parents[3])
    roots = {package_root, *site.getsitepackages(), paths["purelib"], paths["platlib"], paths["stdlib"]}
    for root in sorted(roots, key=len, reverse=True):  # one may lie inside another
        data = data.replace(f"{root}/".encode(), b"")
    return data


# Memory addresses of graphs in the process that wrote them: a separate part, and in the nodes' records of origin.
ADDRESS = "export_graph_id"
ADDRESSES = re.compile(rb'(\\"graph_id\\": )\d+')


class EtRecord(Attached):
    """An ETRecord, valid if each part equals that of a new conversion."""

    by_conversion = True
    tolerates = False

    def write(self, artifact: Path, expected: Expected) -> None:
        """Does nothing: the conversion has written it."""

    def difference(self, origin: Origin) -> str | None:
        fresh = origin.converted().with_suffix(ETRECORD)
        kinds = OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error
        message = f"{self.path} is not a readable ETRecord"
        with reraising(message, *kinds), zipfile.ZipFile(self.path) as record, zipfile.ZipFile(fresh) as fresh_record:
            return _differing(record, fresh_record)


def _differing(own: zipfile.ZipFile, wanted: zipfile.ZipFile) -> str | None:
    """Describes the first part that differs. None if all are equal."""
    if sorted(own.namelist()) != sorted(wanted.namelist()):
        return f"it contains {', '.join(own.namelist())}; a new conversion has {', '.join(wanted.namelist())}"
    for name in (name for name in wanted.namelist() if name != ADDRESS):
        large = own.getinfo(name).file_size > 2 * wanted.getinfo(name).file_size  # then it is not unpacked
        if large or _without_addresses(own.read(name)) != _without_addresses(wanted.read(name)):
            return f"{name} differs from a new conversion's"
    return None


def _without_addresses(part: bytes) -> bytes:
    return ADDRESSES.sub(rb"\g<1>0", part) if part.startswith(b"{") else part
