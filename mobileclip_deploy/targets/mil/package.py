"""Files of a .mlpackage: the manifest, paths that cannot leave the package, and the specification.

The specification is parsed by coremltools' protobuf classes without importing coremltools, which takes seconds and
prints a dozen lines of warnings on Linux. The generated modules need only each other. They are imported under a private
package name from coremltools' folder. protobuf's descriptor pool returns the same classes to coremltools when it is
imported later.
"""

import importlib
import importlib.util
import sys
import types
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from mobileclip_deploy.base.files.json_text import RepeatedKey, parse_json
from mobileclip_deploy.errors import DependencyMissing, InvalidInput, readable_reason

_MANIFEST_LIMIT = 16 * 2**20
_MODEL_LIMIT = 2**31 - 1  # protobuf's own limit for one message
_MODEL_PATH = "@model_path/"


@dataclass(frozen=True)
class Package:
    """A .mlpackage folder that was opened.

    Attributes:
        root: the package folder.
        folder: of the specification file (model.mlmodel), relative to `root`.
        specification: the protobuf message (CoreML.Specification.Model).
    """

    root: Path
    folder: Path
    specification: Any

    def data_file(self, name: str) -> Path:
        """Returns the file that a blob value names, such as "@model_path/weights/weight.bin".

        Raises:
            InvalidInput: the name does not start at @model_path, leaves the package, or names no regular file.
        """
        if not name.startswith(_MODEL_PATH):
            raise InvalidInput(f"{self.root}: a weight names the file {name!r}, expected {_MODEL_PATH}...")
        return _inside(self.root, str(self.folder / name[len(_MODEL_PATH) :]), name)


def _inside(root: Path, relative: str, named: str) -> Path:
    parts = PurePosixPath(relative).parts
    rest = PurePosixPath(named.removeprefix(_MODEL_PATH))
    escapes = rest.is_absolute() or PurePosixPath(relative).is_absolute() or ".." in parts or "\\" in named
    if escapes or "\0" in named or not parts:
        raise InvalidInput(f"{root}: the path {named!r} leaves the package")
    path = root
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise InvalidInput(f"{root}: the path {named!r} goes through a symbolic link, which is not followed")
    if not path.is_file():
        raise InvalidInput(f"{root}: the file {named!r} is missing")
    return path


def _read(path: Path, limit: int) -> bytes:
    try:
        size = path.stat().st_size
        if size == 0 or size > limit:
            raise InvalidInput(f"{path} holds {size} bytes; expected 1 to {limit}")
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {readable_reason(error)}") from None


def open_package(path: str | Path) -> Package:
    """Reads the manifest and the specification of a .mlpackage folder.

    Args:
        path: the folder.

    Raises:
        InvalidInput: not a folder with a readable Manifest.json that names a specification inside it; or the
            specification is empty, beyond protobuf's limit or damaged.
        DependencyMissing: coremltools is not installed.
    """
    root = Path(path)
    if not root.is_dir():
        raise InvalidInput(f"{root} is not a .mlpackage folder")
    try:
        manifest = parse_json(_read(_inside(root, "Manifest.json", "Manifest.json"), _MANIFEST_LIMIT))
        entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
        relative = entry["path"]
    except RepeatedKey as error:
        raise InvalidInput(f"{root}: Manifest.json cannot be used: {error}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidInput(f"{root}: Manifest.json does not name a root model") from None
    if not isinstance(relative, str):
        raise InvalidInput(f"{root}: Manifest.json names a root model whose path is not text")
    file = _inside(root, f"Data/{relative}", relative)
    specification = _model_class()()
    from google.protobuf.message import DecodeError

    try:
        specification.ParseFromString(_read(file, _MODEL_LIMIT))
    except (DecodeError, RecursionError, ValueError) as error:
        raise InvalidInput(f"{file} is not a Core ML specification: {readable_reason(error)}") from None
    return Package(root, file.parent.relative_to(root), specification)


_PRIVATE = "_mobileclip_deploy_coremltools_proto"


@cache
def _model_class() -> Any:
    if "coremltools.proto" in sys.modules:
        return importlib.import_module("coremltools.proto.Model_pb2").Model
    spec = importlib.util.find_spec("coremltools")
    if spec is None or spec.origin is None:
        raise DependencyMissing("reading a Core ML package needs coremltools: pip install coremltools")
    package = types.ModuleType(_PRIVATE)
    package.__path__ = [str(Path(spec.origin).parent / "proto")]
    sys.modules[_PRIVATE] = package
    return importlib.import_module(f"{_PRIVATE}.Model_pb2").Model
