"""Locks of published bundles that every client accepts or refuses alike: clients/vectors/locks.json."""

import hashlib
from collections.abc import Iterator
from typing import Any

FILES = {"manifest.json": '{"schema_version": 2}', "tokenizer/merges.txt": "#version: 0.2\n", "onnx/model.onnx": "é"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
Content = dict[str, Any]


def lock_vectors() -> Content:
    """A bundle's `files`, as text, and locks: all its files are opened with each. `newest_schema`: of locks."""
    return {
        "schema_version": 1,
        "newest_schema": 1,
        "files": FILES,
        "cases": [{"what": what, "code": code, "lock": lock} for what, code, lock in (*_good(), *_refused())],
    }


def _lock(prefix: str = "", **changes: Any) -> Content:
    files = {prefix + name: _file(text) for name, text in FILES.items()}
    lock = {"schema_version": 1, "repository": "someone/nano", "commit": COMMIT, "bundles": [prefix[:-1] or "."]}
    return lock | {"files": files} | changes


def _file(text: str) -> Content:
    return {"bytes": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _with(name: str, text: str | None) -> Content:
    """A lock whose file has another content, or that lacks the file."""
    files = {path: file for path, file in _lock()["files"].items() if path != name}
    return _lock(files=files if text is None else files | {name: _file(text)})


def _good() -> Iterator[tuple[str, None, Content]]:
    yield "a bundle at the root", None, _lock()
    yield "a bundle in a folder", None, _lock("nano-onnx-fp32/")
    root = {name: _file(f"other {text}") for name, text in FILES.items()}
    both = _lock("b/", bundles=[".", "b"])
    yield "the second of two bundles", None, both | {"files": root | both["files"]}


def _refused() -> Iterator[tuple[str, str, Content]]:
    for name in FILES:
        yield f"another hash of {name}", "bundle", _with(name, "other")
        yield f"{name} is missing", "bundle", _with(name, None)
    yield "files of another folder", "bundle", _lock("a/", bundles=["b"])
    yield "a hash of 63 digits", "bundle", _lock(files=_lock()["files"] | {"x": _file("") | {"sha256": "0" * 63}})
    yield "a hash in capitals", "bundle", _lock(files=_lock()["files"] | {"x": _file("") | {"sha256": "A" * 64}})
    for what, commit in (
        ("39 digits", COMMIT[:39]),
        ("41 digits", COMMIT + "0"),
        ("capitals", COMMIT.upper()),
        ("a branch", "main"),
        ("a line end", COMMIT[:39] + "\n"),
    ):
        yield f"a commit of {what}", "bundle", _lock(commit=commit)
    for path in ("../x", "/etc/x", "a/../../x", "..\\x", "C:x", "a//x", ""):
        yield f"the file {path!r}", "bundle", _lock(files=_lock()["files"] | {path: _file("")})
        yield f"the bundle {path!r}", "bundle", _lock(bundles=[".", path])
    yield "no bundle", "bundle", _lock(bundles=[])
    yield "a repository without an owner", "bundle", _lock(repository="nano")
    yield "a schema of 2", "newer", _lock(schema_version=2)
    for name in ("schema_version", "repository", "commit", "bundles", "files"):
        yield f"{name} null", "bundle", _lock(**{name: None})
