"""The Core ML package inside a .pte: extracted, run by the evaluator, and packed reproducibly.

ExecuTorch's Core ML delegate stores a folder in one blob: the files' bytes one after the other, followed by an index as
JSON written backwards (`nodes`: name, kind, dataRegion, children by node index).
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.errors import REASON, InvalidInput, Malformed, reraising
from mobileclip_deploy.targets.executorch.program_file import ProgramFile
from mobileclip_deploy.targets.values import require_shape
from mobileclip_deploy.targets.vendor_internals import exchanged
from mobileclip_deploy.targets.vendor_internals.coremltools import make_reproducible

LARGEST_INDEX = 1 << 20
PACKAGE = "model.mlpackage"


class CoreMLPayloadRunner:
    """Evaluator of the package inside a .pte whose whole graph is one Core ML delegate.

    It is used on a Mac too. The wheel's runtime runs Core ML there, but only the evaluator's results can be compared
    everywhere.

    Raises:
        InvalidInput: operators are left outside of the delegate, or the package is damaged.
    """

    def __init__(self, path: Path, program: ProgramFile) -> None:
        from mobileclip_deploy.targets.mil import load

        if len(program.delegates) != 1 or program.operators:
            raise InvalidInput(f"{path} has several Core ML delegates; only a tower in one delegate can be evaluated")
        with temporary_folder() as folder:
            self._package = load(_unpacked(program.delegates[0][1], folder, path))
        self._input = program.inputs[0]
        arithmetic = f"{self._package.arithmetic} arithmetic"
        self.engine = f"mobileclip_deploy.mil ({arithmetic}, on the package inside the .pte; not Core ML)"

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        require_shape(inputs, self._input.shape)
        (source,), (result,) = self._package.inputs, self._package.outputs
        rows = inputs.astype(np.float32 if self._input.dtype == "float32" else np.int32)
        fed = [{source.name: row[None]} for row in rows]
        return self._package.many(fed, precision=self._package.arithmetic)[result.name][:, 0].astype(np.float32)


def _unpacked(payload: bytes, folder: Path, source: Path) -> Path:
    with reraising(f"{source}: its Core ML part cannot be unpacked", Malformed, OSError):
        for name, data in payload_files(payload).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    package = folder / PACKAGE
    if not package.is_dir():
        raise InvalidInput(f"{source}: its Core ML part has no {PACKAGE}")
    return package


def payload_files(payload: bytes) -> dict[str, bytes]:
    """Returns the files of a delegate's payload, by their paths in its folder.

    Raises:
        Malformed: the index is invalid, or a path is outside the folder.
    """
    kinds = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)
    with reraising(REASON, *kinds, into=Malformed):
        text = payload[-LARGEST_INDEX:][::-1].decode("latin-1")
        nodes = json.JSONDecoder().raw_decode(text)[0]["nodes"]
        return dict(_files(nodes, len(nodes) - 1, payload, "", set()))


def _files(nodes: list[Any], index: int, payload: bytes, path: str, seen: set[int]) -> Iterator[tuple[str, bytes]]:
    if index in seen:
        raise Malformed("a file is in two folders")
    seen.add(index)
    node = nodes[index]
    if node["kind"] == 0:
        start, size = int(node["dataRegion"]["offset"]), int(node["dataRegion"]["size"])
        if start < 0 or size < 0 or start + size > len(payload):
            raise Malformed("a file would be outside of it")
        yield path, payload[start : start + size]
        return
    for name, child in node["children"].items():
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise Malformed(f"a file is called {name!r}")
        yield from _files(nodes, child, payload, f"{path}/{name}" if path else name, seen)


@contextlib.contextmanager
def reproducible_payloads() -> Iterator[None]:
    """Context manager for lowering: packages get no random identifiers, stack traces or paths of this machine.

    The delegate's own packing writes debug files and a random model identifier, the key of the phone's cache of
    compiled models. Here the identifier follows from the content.
    """
    from executorch.backends.apple.coreml import executorchcoreml

    original = executorchcoreml.flatten_directory_contents

    def flatten(path: str) -> bytes | None:
        folder = Path(path)
        make_reproducible(folder / PACKAGE)
        (folder / "debug_info.json").unlink(missing_ok=True)
        digest = hashlib.sha256()
        for file in sorted(entry for entry in (folder / PACKAGE).rglob("*") if entry.is_file()):
            digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
        metadata = folder / "metadata.json"
        described = json.loads(metadata.read_text(encoding="utf-8"))
        described["identifier"] = f"executorch_{digest.hexdigest()[:32]}"
        metadata.write_text(json.dumps(described, sort_keys=True), encoding="utf-8")
        return original(path)

    with exchanged(executorchcoreml, "flatten_directory_contents", flatten):
        yield
