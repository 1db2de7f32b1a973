"""The archive of a TorchScript file: read as data, and passed to torch only if it holds what our traces give.

`torch.jit.load` compiles the code of an archive and calls each `__setstate__` in it, so a stranger's file acts as soon
as it is opened, and its `forward` may call what reads and writes files. Here all of it is looked at first: the names of
its entries, the names in its pickles, and its code as a syntax tree. Torch then gets an archive that is packed again
from what was looked at, because its reader of zip files is not Python's.
"""

import ast
import io
import json
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets import TensorInfo
from mobileclip_torchscript.names import CALLED, GLOBALS, PICKLED, SYNTAX

__all__ = ["PORTS", "described", "load", "packed", "refused_of_code"]

PORTS = "tensors.json"
ROOT = "tower/"
ENTRY = re.compile(
    r"code/__torch__[A-Za-z0-9_/]*\.py|(data|constants|traced_inputs)(\.pkl|/[0-9]+)|version|\.data/version|byteorder"
    r"|extra/tensors\.json"
)
# Without comments, escapes and line ends of other kinds, in which Python's parser and torch's may read other words.
CODE = re.compile(r'(?:[A-Za-z0-9_ \n.,:=()\[\]>-]|"[a-z0-9_]*")*')
FIRST_DATE = (1980, 1, 1, 0, 0, 0)


def packed(entries: Mapping[str, bytes]) -> bytes:
    """Returns an archive of these entries: the same entries give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(entries.items()):
            archive.writestr(zipfile.ZipInfo(ROOT + name, FIRST_DATE), content)
    return buffer.getvalue()


def load(path: Path) -> Any:
    """Loads a file as torch's module, after everything in it was checked.

    Raises:
        InvalidInput: it is damaged, or holds what no trace of this target gives.
    """
    entries = _entries(path)
    for name, content in entries.items():
        check = CHECKS.get(PurePosixPath(name).suffix)
        refused = check(content) if check is not None else None
        if refused is not None:
            raise InvalidInput(f"{path} is not loaded: {name} has {refused}, which no trace of this target gives")
    try:
        return torch.jit.load(io.BytesIO(packed(entries)), map_location="cpu")
    except (RuntimeError, OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or ["damaged"])[0]
        raise InvalidInput(f"{path} is not a readable TorchScript file: {first}") from error


def described(path: Path) -> tuple[TensorInfo, TensorInfo]:
    """Returns input and output as the file declares them, without a look at its code.

    Raises:
        InvalidInput: it is damaged, or another program wrote it.
    """
    try:
        source, result = (
            TensorInfo(**{**port, "shape": tuple(port["shape"]), "range": port["range"] and tuple(port["range"])})
            for port in json.loads(_entries(path)[f"extra/{PORTS}"])
        )
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInput(f"{path} does not say what goes in and comes out; another program wrote it") from error
    return source, result


def _entries(path: Path) -> dict[str, bytes]:
    """Returns every entry by its name below the archive's own folder."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            odd = [entry.filename for entry in entries if not entry.filename.startswith(ROOT)]
            odd += [entry.filename for entry in entries if ENTRY.fullmatch(entry.filename.removeprefix(ROOT)) is None]
            odd += [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
            if odd:
                raise InvalidInput(f"{path} is not loaded: another program wrote the entry {odd[0]!r}")
            if sum(entry.file_size for entry in entries) > path.stat().st_size:  # entries that lie upon one another
                raise InvalidInput(f"{path} is not loaded: its entries are larger than the file")
            return {entry.filename.removeprefix(ROOT): archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise InvalidInput(f"{path} is not a readable TorchScript file: {error}") from error


def _refused_of_pickle(pickled: bytes) -> str | None:
    """Returns the first name in a pickle that its reader would look up and ours do not have. None if all are known."""
    try:
        said = [(operation.name, str(argument)) for operation, argument, _ in pickletools.genops(pickled)]
    except Exception as error:  # whatever the bytes lead to
        return f"no readable pickle ({error})"
    for operation, name in said:
        if operation not in PICKLED:
            return f"the operation {operation}"
        own = operation == "GLOBAL" and name.startswith("__torch__.") and not name.startswith("__torch__.torch.classes")
        if operation == "GLOBAL" and name not in GLOBALS and not own:
            return repr(name)
    return None


def refused_of_code(code: bytes) -> str | None:
    """Returns the first method, word or operator of a file of code that is not in `names`. None if all are known."""
    text = code.decode("utf-8", "replace")
    read = CODE.match(text)
    if read is None or read.end() != len(text):
        return f"the character {text[read.end() if read else 0]!r}"
    try:
        _Code().visit(ast.parse(text))
    except _Refused as refused:
        return str(refused)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"no readable code ({error})"
    return None


CHECKS = {".pkl": _refused_of_pickle, ".py": refused_of_code}


class _Refused(Exception):
    """Refused part of the code."""


class _Code(ast.NodeVisitor):
    """Walks through code and refuses everything that is not named: kinds of statements, methods, and what is called."""

    def visit(self, node: ast.AST) -> None:
        if type(node).__name__ not in SYNTAX:
            raise _Refused(f"syntax of the kind {type(node).__name__}")
        super().visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if [ast.unparse(base) for base in node.bases] != ["Module"] or node.keywords or node.decorator_list:
            raise _Refused(f"the class {node.name}")
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name != "forward" or node.decorator_list:
            raise _Refused(f"the method {node.name}")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func)
        if called not in CALLED and not (isinstance(node.func, ast.Attribute) and node.func.attr == "forward"):
            raise _Refused(called)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Parts of torch by their whole names; an attribute of a module, and a class in an annotation, do nothing."""
        if ast.unparse(node) not in CALLED:
            self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in ("torch", "ops"):
            raise _Refused(f"{node.id} as a value")
