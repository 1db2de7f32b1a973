"""No reader of a stranger's bytes raises anything but an error of ours, and no reader is without a case here.

`MOBILECLIP_DEPLOY_READER_CASES=2000 pytest tests/hostile/test_readers.py` tries as many mutations, by seed; `make
test-all` tries 100. A function that parses, and that no case of `readers.py` calls, has to be in `OWN` with the reason.
"""

import ast
import contextlib
import json
import os
import random
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from exports import Exports
from hostile.readers import STRANGERS
from hostile.table import alarm
from hostile.test_fuzz import EDITS, SECONDS, VALUES

import mobileclip_deploy
from mobileclip_deploy.errors import MobileClipDeployError
from mobileclip_deploy.network.model.variants import models_dir

PACKAGE = Path(mobileclip_deploy.__file__).parent
PARSERS = {
    *("loads", "parse_json", "parse_model", "read_json", "read_model", "model_validate_json", "validate_json"),
    *("json_value", "read_tensors", "safe_open", "plain_array", "plain_arrays", "read_lines", "read_texts"),
    *("FromString", "ParseFromString", "run_bounded", "download", "urlopen", "hf_hub_download", "parse_document"),
}
OWN = {
    "data of this package": (
        *("artifacts/layouts/__init__.py:_packaged", "benchmark/android/release.py:pinned_release"),
        *("benchmark/suite/tasks.py:load_suite", "benchmark/suite/tasks.py:published"),
        *("network/model/licences/__init__.py:all_terms", "network/samples/__init__.py:prompts"),
        "targets/flatbuffer/__init__.py:schema",
    ),
    "written by this program into a folder of its own, or by its own process": (
        *("benchmark/android/ready.py:_is_complete", "benchmark/ddp/driver.py:run", "benchmark/host/rounds.py:finish"),
        *("benchmark/host/worker.py:__init__", "benchmark/offline_jobs.py:_remembered", "rounding/kept.py:restore"),
        *("benchmark/plan.py:environment_before", "benchmark/sweep/cells.py:kept", "verify/audit/process.py:main"),
        *("export/smallest/search.py:_layers", "base/files/tensors.py:sort_metadata"),
        *("training/datacompdr/writing.py:_digests", "training/language/vocabulary.py:learned_vocabulary"),
        *("training/reinforcement/captioning.py:__init__", "verify/audit/opening.py:_reply"),
    ),
    "by a converter or a runtime on this machine": (
        *("targets/coreml/package.py:join", "targets/executorch/coreml_payload.py:flatten"),
        *("targets/onnx/int8_sums.py:product", "targets/litert/authoring.py:write_model"),
        *("targets/onnx/runner.py:operator_times", "targets/qnn/emulator.py:_named", "targets/qnn/emulator.py:_placed"),
        "targets/vendor_internals/coremltools.py:make_reproducible",
    ),
    "a format with mutations of its own: test_fuzz.py, tests/targets, tests/faults": (
        *("targets/coreai/asset.py:__init__", "targets/coreai/asset.py:_metadata", "targets/qnn/context.py:pointed"),
        *("targets/litert/opening.py:__init__", "targets/onnx/quantized.py:plain_model"),
    ),
    "read by functions of the cases `stream`, `run`, `texts.jsonl`, `axes`, `adb` and `session`": (
        *("benchmark/android/driver.py:_versions", "benchmark/android/rounds.py:receive"),
        *("benchmark/ddp/driver.py:_collect", "benchmark/ddp/driver.py:_last_line", "search/library.py:int8_scale"),
        *("search/embedding_files.py:embed_to_file", "search/library.py:embed_to_index"),
        *("verify/audit/door.py:_sampled", "verify/audit/embeddings.py:verify_embeddings"),
        *("verify/instruments/learned_rounding.py:read_floats", "evaluation/dataset_files.py:_lines"),
    ),
    "test_download.py, test_hub.py, test_suite.py, test_dataset.py, test_companion_faults.py, tests/targets/coreml": (
        *("base/download.py:read", "base/pages/runtime.py:_downloaded", "benchmark/android/release.py:_download"),
        *("network/checkpoints/hub.py:fetch", "benchmark/suite/samples.py:_first"),
        *("benchmark/suite/samples.py:read_samples", "training/datacompdr/joining.py:_by_uid"),
        *("verify/checks/companions.py:_difference", "targets/coreml/runner.py:__init__"),
    ),
}
"""Functions that parse and need no case here, by the reason or the tests that they have."""


def mutated(content: bytes, seed: str) -> bytes:
    """Changes bits, lengths and texts; or, mostly where there is JSON, its values, types, keys and numbers."""
    chance, start = random.Random(seed), 8 if content[8:9] == b"{" else 0
    end = start + int.from_bytes(content[:start], "little") if start else len(content)
    lines = content[start:end].split(b"\n")
    chosen = chance.randrange(len(lines))
    if len(lines) > 2 and lines[chosen][:1] == b"{":  # one of JSON lines
        start, end = (sum(map(len, lines[:index])) + index for index in (chosen, chosen + 1))
        end -= 1
    try:
        value = json.loads(content[start:end])
    except (ValueError, RecursionError):
        value = None
    if value is not None and chance.random() < 0.6:
        part = with_other_values(value, chance)
        length = len(part).to_bytes(8, "little") if start == 8 and content[8:9] == b"{" else content[:start]
        return length + part + content[end:]
    changed = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        if changed:
            place = (
                chance.randrange(len(changed)) if chance.random() < 0.5 else chance.randrange(min(len(changed), 500))
            )
            chance.choice(EDITS)(changed, place, chance)
    return bytes(changed)


def with_other_values(value: Any, chance: random.Random) -> bytes:
    """JSON with another value, type, number or character somewhere, a key twice, or bytes that are no UTF-8."""
    path: list[Any] = []
    inner = value
    while isinstance(inner, dict | list) and inner and (not path or chance.random() < 0.8):
        path.append((inner, chance.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))))
        inner = inner[path[-1][1]]
    other = chance.choice((*VALUES, "\ud800", 10**400, "DIGITS", float("inf"), float("nan"), "TWICE", "BYTES"))
    if not path:
        value = other
    elif chance.random() < 0.15 and isinstance(path[-1][0], dict):
        path[-1][0]["\ud800" if chance.random() < 0.3 else ""] = path[-1][0].pop(path[-1][1])
    else:
        path[-1][0][path[-1][1]] = other
    told = json.dumps(value).encode().replace(b'"DIGITS"', b"9" * 5000).replace(b'"BYTES"', b'"\xff\xfe"')
    return told.replace(b'"TWICE"', b'{"a": 1, "a": 2}')


def parsing() -> set[str]:
    """Every function of the package that parses, by its file and name."""
    found: set[str] = set()

    def walk(node: ast.AST, file: str, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = child.name if isinstance(child, ast.FunctionDef | ast.ClassDef) else name
            if isinstance(child, ast.Call):
                called = getattr(child.func, "attr", getattr(child.func, "id", ""))
                if called in PARSERS and name:
                    found.add(f"{file}:{name}")
            walk(child, file, inner)

    for path in PACKAGE.rglob("*.py"):
        walk(ast.parse(path.read_text(encoding="utf-8")), path.relative_to(PACKAGE).as_posix(), "")
    return found


@pytest.mark.slow
def test_every_reader_has_a_case_that_its_sound_input_passes(exports: Exports, tmp_path: Path) -> None:
    called: set[str] = set()

    def record(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            called.add(f"{frame.f_code.co_filename[len(str(PACKAGE)) + 1 :]}:{frame.f_code.co_name}")

    for name, (make, read) in STRANGERS.items():
        (tmp_path / name).mkdir()
        path = make(exports, tmp_path / name)
        sys.setprofile(record)
        try:
            read(path)
        finally:
            sys.setprofile(None)
    assert parsing() - called == {name for names in OWN.values() for name in names}


FOUND = {
    "preprocessor_config": b'{"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "resample": []}',
    "transformers": b'{"text_config": "x"}',
    "csv": b"image,label\nb" + b"9" * 5000 + b",cat\n",
    "pairs.jsonl": b'{"image": "%s", "text": "a cat"}\n' % (b"y" * 900),
    "card": (models_dir() / "nano.json").read_bytes().replace(b'"cc-by-sa-4.0-nano"', b"[]"),
    "xcode": b"<plist><dict>",
    "power": b"<plist><array/><key>x</key></plist>",
    "engine": b'{"embeddings": "\\x"}',
    "normalisation": b'{"mean": [1%s, 0, 0], "std": [1, 1, 1]}' % (b"0" * 400),
}
"""What mutations ended with another exception, by its case."""


@pytest.mark.parametrize("name", FOUND)
def test_what_mutations_found_ends_in_an_error_of_ours(name: str, exports: Exports, tmp_path: Path) -> None:
    make, read = STRANGERS[name]
    path = make(exports, tmp_path)
    path.write_bytes(FOUND[name])
    with contextlib.suppress(MobileClipDeployError):
        read(path)


@pytest.mark.slow
def test_mutations_end_in_an_error_of_ours(exports: Exports, tmp_path: Path) -> None:
    count = int(os.environ.get("MOBILECLIP_DEPLOY_READER_CASES", "100"))
    sound: dict[str, tuple[Path, bytes]] = {}
    ends: Counter[str] = Counter()
    broken: list[str] = []
    for number in range(count):
        name = list(STRANGERS)[number % len(STRANGERS)]
        make, read = STRANGERS[name]
        if name not in sound:
            (tmp_path / name).mkdir()
            path = make(exports, tmp_path / name)
            sound[name] = path, path.read_bytes()
        path, content = sound[name]
        path.write_bytes(mutated(content, f"{name} {number}"))
        try:
            with alarm(SECONDS):
                read(path)
            ends["read"] += 1
        except MobileClipDeployError as error:
            ends["refused"] += 1
            if "\n" in str(error):
                broken.append(f"{name}, {number}: two lines: {str(error)[:100]!r}")
        except Exception as error:
            broken.append(f"{name}, {number}: {type(error).__name__}: {str(error)[:100]}")
    print(dict(ends), *broken, sep="\n")
    assert broken == []
