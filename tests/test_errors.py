"""What users read of a bad value or file are words of ours: none of pydantic's, of Python's and of the system's."""

import errno
import gzip
import io
import json
import os
import re
import struct
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx
import pytest
import safetensors.numpy
import yaml
from PIL import Image
from pydantic import BaseModel, Field, ValidationError
from pydantic_core.core_schema import ErrorType

from mobileclip_deploy.errors import (
    DAMAGED,
    PROBLEMS,
    REASON,
    SYSTEM,
    CheckpointError,
    DependencyMissing,
    InvalidInput,
    Malformed,
    RuntimeFailed,
    first_problem,
    first_sentence,
    import_optional,
    listed,
    readable_reason,
    reraising,
    wrapping_runtime_errors,
)

FOREIGN = ("Errno", "Expecting", "codec", "Input should", "Field required", "Extra inputs", "recursion", "should be")


class Model(BaseModel, extra="forbid"):
    name: str = "a"
    count: int = Field(1, gt=0, le=9)
    share: float = Field(0.5, allow_inf_nan=False)
    flag: bool = False
    kind: Literal["a", "b"] = "a"
    rows: tuple[int, ...] = Field((), max_length=2)
    part: dict[str, int] = {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"name": 7}, "name: not a string"),
        ({"count": "x"}, "count: not a whole number"),
        ({"count": 0}, "count: not above 0"),
        ({"count": 10}, "count: above 9"),
        ({"share": "x"}, "share: not a number"),
        ({"share": float("nan")}, "share: not a finite number"),
        ({"flag": "x"}, "flag: neither true nor false"),
        ({"kind": "c"}, "kind: not 'a' or 'b'"),
        ({"rows": 3}, "rows: not a list"),
        ({"rows": [1, 2, 3]}, "rows: more than 2 items"),
        ({"part": []}, "part: not an object with fields"),
        ({"more": 1}, "more: not known here"),
        ([], "not an object with fields"),
    ],
)
def test_a_value_that_a_model_refuses(content: object, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Model.model_validate(content)
    assert first_problem(refused.value) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "invalid JSON, at line 1, column 1"),
        ("[" * 1000, "nested too deeply, at line 1, column 20"),
        ('{"count": 1e999, "share": }', "invalid JSON, at line 1, column"),
    ],
)
def test_a_text_that_is_no_json(text: str, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Model.model_validate_json(text)
    assert first_problem(refused.value).startswith(words)


def test_no_problem_is_called_by_a_name_that_pydantic_does_not_have() -> None:
    assert set(PROBLEMS) <= set(get_args(ErrorType))


def test_what_python_and_the_system_say() -> None:
    errors: list[BaseException] = [OSError(number, os.strerror(number), "a.json") for number in SYSTEM]
    errors += [
        KeyError("embeddings"),
        TypeError("'int' object is not subscriptable"),
        RecursionError("maximum recursion"),
    ]
    for broken in (lambda: json.loads("{"), lambda: b"\xff".decode("utf-8"), lambda: json.loads("9" * 5000)):
        try:
            broken()
        except ValueError as error:
            errors.append(error)
    told = [readable_reason(error) for error in errors]
    assert [text for text in told if any(word in text for word in FOREIGN)] == []
    assert told[-6:] == [
        "embeddings is missing",
        "its structure is not valid",
        "nested too deeply",
        "invalid JSON at line 1, column 2",
        "byte 1 is not valid UTF-8",
        "a number of too many digits",
    ]
    assert readable_reason(OSError(errno.EIO, "Input/output error")) == "Input/output error"
    assert readable_reason(Malformed("it contains half a surrogate pair")) == "it contains half a surrogate pair"
    assert readable_reason(InvalidInput("a.json:\nhas no prompts")) == "a.json: has no prompts"


def test_a_line_has_an_end_whatever_a_stranger_s_file_holds() -> None:
    error = InvalidInput(f"{', '.join(map(str, range(100_000)))} are there; remove them")
    assert len(error.line) == 2000
    assert (error.line[:4], error.remedy) == ("0, 1", "remove them")
    assert listed(map(str, range(12))) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


def test_a_refusal_says_why_at_its_place_and_keeps_the_cause() -> None:
    for what, told in {"a": "a: b is missing", f"a ({REASON}); do c": "a (b is missing); do c"}.items():
        with pytest.raises(CheckpointError) as refused, reraising(what, LookupError, into=CheckpointError):
            raise KeyError("b")
        assert str(refused.value) == told
        assert isinstance(refused.value.__cause__, KeyError)


PARSERS: dict[str, tuple[Callable[[], object], str]] = {
    "TOML": (lambda: tomllib.loads("a = 1\nb ="), "unreadable"),
    "TOML, with its place": (lambda: tomllib.loads("a = 1\nb ? 2"), "unreadable at line 2, column 3"),
    "TOML, with a name that is there twice": (
        lambda: tomllib.loads("a = 1\na = 2\n"),
        "a duplicate name at line 2, column 6",
    ),
    "YAML": (lambda: yaml.safe_load("a: 1\nb: [2"), "unreadable at line 2, column 6"),
    "a regular expression": (lambda: re.compile("cat("), "not a valid regular expression, from character 4"),
    "safetensors": (lambda: safetensors.numpy.load(b"nothing of the kind"), DAMAGED),
    "zip": (lambda: zipfile.ZipFile(io.BytesIO(b"PK")), DAMAGED),
    "gzip": (lambda: gzip.decompress(b"nothing"), DAMAGED),
    "tar": (lambda: tarfile.TarFile(fileobj=io.BytesIO(b"nothing")), DAMAGED),
    "struct": (lambda: struct.unpack("<I", b"1"), DAMAGED),
    "a picture": (lambda: Image.open(io.BytesIO(b"nothing")), DAMAGED),
    "protobuf": (lambda: onnx.ModelProto.FromString(b"nothing"), DAMAGED),
    "numpy": (lambda: np.zeros(3).reshape(2, 2), DAMAGED),
}


@pytest.mark.parametrize("case", PARSERS)
def test_what_readers_of_other_packages_say(case: str) -> None:
    read, words = PARSERS[case]
    told = ""
    try:
        read()
    except Exception as error:
        told = readable_reason(error)
    assert told == words


def test_a_runtime_s_own_errors_are_told_in_one_way_and_ours_pass() -> None:
    with pytest.raises(RuntimeFailed, match=r"^it failed: odd$"), wrapping_runtime_errors("it failed"):
        raise ValueError("odd")
    with pytest.raises(InvalidInput, match=r"^ours$"), wrapping_runtime_errors("it failed"):
        raise InvalidInput("ours")


def test_a_package_that_is_there_and_broken_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed.py").write_text("import no_such_part_of_it")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DependencyMissing) as refused:
        import_optional("half_installed", "mobileclip-deploy[hub]")
    assert str(refused.value) == (
        "half_installed cannot be imported (No module named 'no_such_part_of_it'); type: pip install --force-reinstall "
        "'mobileclip-deploy[hub]'"
    )
    with pytest.raises(DependencyMissing, match="no_such_package is not installed; type: pip install 'x'"):
        import_optional("no_such_package.part", "x")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/onnxruntime/core/graph/model.cc:256 onnxruntime::Model::"
            "Model(onnx::ModelProto&&, const onnxruntime::ModelOptions&) Unsupported model IR version: 99",
            "[ONNXRuntimeError] : 1 : FAIL : Unsupported model IR version: 99",
        ),
        (
            "Load model failed:/home/a/onnxruntime/core/common/x.h:9 bool onnxruntime::A::b() const no such file",
            "Load model failed:no such file",
        ),
        ("/onnxruntime_src/onnxruntime/core/x.cc:1 it is broken", "it is broken"),
        ("cannot open /models/onnxruntime/a.onnx", "cannot open /models/onnxruntime/a.onnx"),
    ],
)
def test_places_in_the_source_of_onnx_runtime_are_not_told(message: str, expected: str) -> None:
    assert first_sentence(RuntimeError(message)) == expected
