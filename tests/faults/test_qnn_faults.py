"""Faults in the opaque half of a Qualcomm artifact: what points elsewhere, or is another's, is refused when it is
read; what reads well and computes something else is seen by its answers. The other half is an ONNX file."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper
from qnn_files import network, require_qnn, write
from tiny import filled, inputs

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.folding import fold
from mobileclip_deploy.parity.metrics import compare
from mobileclip_deploy.targets.qnn.context import COMPATIBILITY
from mobileclip_deploy.targets.qnn.emulator import FILLED, compile_for
from mobileclip_deploy.targets.qnn.opening import QnnArtifact
from mobileclip_deploy.targets.qnn.tables import looked_up

pytestmark = pytest.mark.slow  # test_conformance.py spoils weights for every target

require_qnn()

MODEL, BINARY, SOURCE, OTHER = (f"tiny_image{end}" for end in (".v75.onnx", ".v75.bin", ".onnx", ".v79.bin"))
ENDS = ("onnx", "bin")
Edit = Callable[[Path], object]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chips' binaries of an image tower."""
    return write(network(), "image", "v75,v79", tmp_path_factory.mktemp("qnn"))


def copied(sound: Path, folder: Path) -> Path:
    return Path(shutil.copytree(sound, folder / sound.name))


def node(edit: Callable[[onnx.NodeProto], object], name: str = MODEL) -> Edit:
    return model(lambda proto: edit(proto.graph.node[0]), name)


def model(edit: Callable[[onnx.ModelProto], object], name: str = MODEL) -> Edit:
    def change(path: Path) -> None:
        proto = onnx.load(path / name, load_external_data=False)
        edit(proto)
        (path / name).write_bytes(proto.SerializeToString())

    return change


def said(setting: str, value: Any, name: str = MODEL) -> Edit:
    def change(proto: onnx.NodeProto) -> None:
        kept = [one for one in proto.attribute if one.name != setting]
        del proto.attribute[:]
        proto.attribute.extend([*kept, helper.make_attribute(setting, value)])

    return node(change, name)


def binary(edit: Callable[[bytes], bytes], name: str = BINARY) -> Edit:
    return lambda path: (path / name).write_bytes(edit((path / name).read_bytes()))


def compatible(value: str, name: str = MODEL) -> Edit:
    """Other chips in what a model says that it is compatible with."""

    def change(proto: onnx.ModelProto) -> None:
        kept = {entry.key: entry.value for entry in proto.metadata_props}
        helper.set_model_props(proto, {**kept, COMPATIBILITY: value})

    return model(change, name)


def copy_of(name: str, other: str) -> Edit:
    return lambda path: shutil.copy(path / name, path / other)


def linked(path: Path) -> None:
    (path / BINARY).unlink()
    (path / BINARY).symlink_to(path / OTHER)


def external(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer.add(name="beside", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="../beside")


def narrowed(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3


def renamed(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].name = proto.graph.node[0].input[0] = "pixels"


def negated(proto: onnx.ModelProto) -> None:
    (result,) = proto.graph.node[0].output
    proto.graph.node[0].output[0] = "before"
    proto.graph.node.append(helper.make_node("Neg", ["before"], [result]))


NOT_OWN = "points to .*, not to 'tiny_image.v75.bin'"
FAULTS: dict[str, tuple[Edit, str]] = {
    "out of the bundle": (said("ep_cache_context", "../../other.bin"), NOT_OWN),
    "an absolute path": (said("ep_cache_context", "/etc/passwd"), NOT_OWN),
    "another chip's path": (said("ep_cache_context", OTHER), NOT_OWN),
    "a folder below": (said("ep_cache_context", f"below/{BINARY}"), NOT_OWN),
    "itself by a detour": (said("ep_cache_context", f"./{BINARY}"), NOT_OWN),
    "out of the bundle, as Windows says it": (said("ep_cache_context", "..\\other.bin"), NOT_OWN),
    "a path that is no text": (said("ep_cache_context", 1), NOT_OWN),
    "a binary in the model": (said("embed_mode", 1), "points to"),
    "spilled, and no number": (said("max_size", "many"), "max_size is not a number of bytes"),
    "spilled, below 0": (said("max_size", -1), "max_size is not a number of bytes"),
    "nothing is pointed to": (said("main_context", 0), "nothing in it points to"),
    "another provider": (said("source", "OpenVINOExecutionProvider"), "for another execution provider"),
    "another graph of the binary": (said("partition_name", "QNNExecutionProvider_1"), "does not contain the graph"),
    "another input": (model(renamed), "does not contain the graph 'pixels'"),
    "an operation behind it": (model(negated), "has 2 operations"),
    "another operation": (node(lambda one: setattr(one, "op_type", "Identity")), "not one of the type EPContext"),
    "another domain": (node(lambda one: setattr(one, "domain", "")), "not one of the type EPContext"),
    "two of it": (model(lambda one: one.graph.node.append(one.graph.node[0])), "has 2 operations"),
    "no operation": (model(lambda one: one.graph.ClearField("node")), "has 0 operations"),
    "a function": (
        model(lambda one: one.functions.add(name="EPContext", domain="com.microsoft")),
        "not one of the type",
    ),
    "numbers in another file": (model(external), "elements in other files"),
    "another shape than the other chip's": (model(narrowed), "differ between chips"),
    "no chip": (compatible(""), "names another chip than sm8650"),
    "another architecture": (compatible("v2:6:2.51.0:5.51.0:73:57:0:0"), "names another chip than sm8650"),
    "another chip": (compatible("v2:6:2.51.0:5.51.0:75:43:0:0"), "names another chip than sm8650"),
    "a model of no known form": (lambda path: (path / MODEL).write_bytes(b"\xff" * 64), "cannot be used"),
    "a model cut short": (lambda path: (path / MODEL).write_bytes((path / MODEL).read_bytes()[:200]), "cannot be used"),
    "a binary cut short": (binary(lambda data: data[:-1]), "its length differs from its header"),
    "half a binary": (binary(lambda data: data[: len(data) // 2]), "its length differs from its header"),
    "a binary with something behind it": (binary(lambda data: data + b"\0"), "its length differs from its header"),
    "an empty binary": (binary(lambda data: b""), "not a context binary of a known form"),
    "a binary of other bytes": (binary(lambda data: b"\xff" * len(data)), "not a context binary of a known form"),
    "another chip's binary": (copy_of(OTHER, BINARY), "chip with number 69, not for sm8650"),
    "no binary": (lambda path: (path / BINARY).unlink(), "2 models for chips and 1 binaries"),
    "a binary alone": (lambda path: (path / MODEL).unlink(), "1 models for chips and 2 binaries"),
    "a link": (linked, "not a regular file"),
    "a folder": (lambda path: (path / "more").mkdir(), "not a regular file"),
    "something else": (lambda path: (path / "libQnnHtp.so").touch(), "not part of such an artifact"),
    "another model": (copy_of(SOURCE, "another.onnx"), "2 compiled models"),
    "no model": (lambda path: (path / SOURCE).unlink(), "0 compiled models"),
}


def spoiled(data: bytes) -> bytes:
    """Other weights in a binary: every byte of its middle half is one more."""
    begin, end = len(data) // 4, 3 * (len(data) // 4)
    return data[:begin] + bytes((byte + 1) % 256 for byte in data[begin:end]) + data[end:]


@pytest.fixture(scope="module")
def lengths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text tower for two chips that takes 4 and 8 tokens."""
    model = filled("tiny_later")
    fold(model)
    return write(model, "text", "v75,v79", tmp_path_factory.mktemp("lengths"), contexts=(4, 8))


def renamed_to(old: str, new: str) -> Edit:
    """Files of a label called after another."""
    return lambda path: [(path / f"tiny_text.{old}.{end}").rename(path / f"tiny_text.{new}.{end}") for end in ENDS]


def without(*labels: str) -> Edit:
    return lambda path: [(path / f"tiny_text.{label}.{end}").unlink() for label in labels for end in ENDS]


LENGTH_FAULTS: dict[str, tuple[Edit, str]] = {
    "the whole length's binary": (copy_of("tiny_text.v75.bin", "tiny_text.v75-4.bin"), "does not contain the graph"),
    "another chip's binary of the length": (
        copy_of("tiny_text.v79-4.bin", "tiny_text.v75-4.bin"),
        "chip with number 69, not for sm8650",
    ),
    "the whole length's model": (
        copy_of("tiny_text.v75.onnx", "tiny_text.v75-4.onnx"),
        "points to 'tiny_text.v75.bin', not to 'tiny_text.v75-4.bin'",
    ),
    "a length that it does not take": (renamed_to("v75-4", "v75-5"), "points to 'tiny_text.v75-4.bin'"),
    "a length of one chip alone": (without("v79-4"), "differ between chips"),
    "the whole length of one chip alone": (without("v79"), "differ between chips"),
    "a length that is no number": (renamed_to("v75-4", "v75-four"), "2 compiled models"),
    "no length": (renamed_to("v75-4", "v75-"), "2 compiled models"),
}
TABLES = {"own": FAULTS, "lengths": LENGTH_FAULTS}


@pytest.mark.parametrize(
    ("sound", "fault"),
    [
        pytest.param(sound, fault, marks=[] if sound == "own" else pytest.mark.slow)  # lengths are compiled
        for sound, faults in TABLES.items()
        for fault in faults
    ],
)
def test_what_is_not_an_artifacts_own_is_refused(
    sound: str, fault: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path, (edit, reason) = copied(request.getfixturevalue(sound), tmp_path), TABLES[sound][fault]
    assert QnnArtifact(path).ports[0].shape == ((1, 0) if sound == "lengths" else (1, 3, 64, 64))
    edit(path)
    with pytest.raises(InvalidInput, match=reason) as refused:
        _ = QnnArtifact(path).ports
    assert "\n" not in refused.value.line


def test_another_towers_binary_is_refused(own: Path, tmp_path: Path) -> None:
    path, text = copied(own, tmp_path), write(network(), "text", "v75", tmp_path)
    shutil.copy(text / "tiny_text.v75.bin", path / BINARY)
    with pytest.raises(InvalidInput, match="does not contain the graph"):
        _ = QnnArtifact(path).inputs


def test_without_any_binary_nothing_is_answered(own: Path, tmp_path: Path) -> None:
    path = copied(own, tmp_path)
    for file in [*path.glob("*.v7*")]:
        file.unlink()
    with pytest.raises(InvalidInput, match="has no binary for any chip"):
        QnnArtifact(path).runner()


def test_a_binary_of_other_weights_is_seen_by_its_answers_and_by_its_bytes(own: Path, tmp_path: Path) -> None:
    path, rows = copied(own, tmp_path), inputs("image")[:1]
    others = write(network(1), "image", "v75", tmp_path / "others")
    exact = QnnArtifact(path).plain_runner()(rows)
    for name in (MODEL, BINARY):  # whole, with its own model, in the place of ours
        shutil.copy(others / name, path / name)
    assert compare(exact, QnnArtifact(path).runner()(rows)).cosine < 0.999
    assert "bytes of tiny_image.v75.bin differ" in str(QnnArtifact(path).unlike(QnnArtifact(own)))


def test_a_binary_whose_weights_were_changed_is_seen_by_its_bytes_though_its_answers_hide_it(
    own: Path, tmp_path: Path
) -> None:
    path = copied(own, tmp_path)
    assert QnnArtifact(path).unlike(QnnArtifact(own)) is None
    binary(lambda data: spoiled(data))(path)
    assert "bytes of tiny_image.v75.bin differ" in str(QnnArtifact(path).unlike(QnnArtifact(own)))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text tower."""
    return write(network(), "text", "v75", tmp_path_factory.mktemp("words"))


WORDS, PAIR = "tiny_text.v75.bin", [70, 71]


def reordered(table: npt.NDArray[np.float16]) -> None:
    table[PAIR] = table[PAIR[::-1]]


def repeated(table: npt.NDArray[np.float16]) -> None:
    table[70:78] = table[3]


def zeroed(table: npt.NDArray[np.float16]) -> None:
    table[70] = 0


@pytest.mark.parametrize(("change", "count"), [(reordered, 2), (repeated, 8), (zeroed, 1)])
def test_rows_of_rare_words_in_a_binary_are_read_and_compared_byte_by_byte(
    change: Callable[[npt.NDArray[np.float16]], None], count: int, words: Path, tmp_path: Path
) -> None:
    path, sound = copied(words, tmp_path), QnnArtifact(words)
    assert sound.weights is not None
    ((_, rows),) = looked_up(sound.graph)
    other = rows.copy()
    change(other)
    binary(lambda data: data.replace(rows.tobytes(), other.tobytes()), WORDS)(path)
    with pytest.raises(InvalidInput, match=rf"{WORDS} holds {count} rows \(70, .*|holds 1 rows \(70\)"):
        _ = QnnArtifact(path).weights
    assert f"bytes of {WORDS} differ" in str(QnnArtifact(path).unlike(sound))


def test_a_binary_may_differ_in_the_compilers_padding_alone(words: Path, tmp_path: Path) -> None:
    path, sound = copied(words, tmp_path), QnnArtifact(words)
    padded = compile_for(sound.file, sound.chips[0], fill=FILLED).binary
    own = (path / WORDS).read_bytes()
    # On some machines the compiler leaves no byte unfilled, and both are equal.
    place = next(number for number in range(len(own) // 2, len(own)) if padded[number] == own[number])
    (path / WORDS).write_bytes(padded)
    assert QnnArtifact(path).unlike(sound) is None
    (path / WORDS).write_bytes(own[:place] + bytes([own[place] ^ 1]) + own[place + 1 :])
    assert "1 of " in str(QnnArtifact(path).unlike(sound))


def test_a_binary_of_several_chips_is_left_to_the_version_that_wrote_it(own: Path, tmp_path: Path) -> None:
    path = copied(own, tmp_path)
    for end in ENDS:
        shutil.copy(path / f"tiny_image.v75.{end}", path / f"tiny_image.union.{end}")
    found = QnnArtifact(path)
    assert (found.contents["chips"].keys(), len(list(found.runners()))) == ({"v75", "v79", "union"}, 2)
    assert found.facts["binary union"].endswith("for sm8650, sm8750; its answers are not computed")
    assert found.unasked == "the binary for several chips: mobileclip-deploy 0.4.0 verifies it"
    assert (QnnArtifact(own).unasked, found.unlike(QnnArtifact(own))) == (None, None)


def test_a_length_that_is_missing_or_too_much_is_seen_by_compiling_again(lengths: Path, tmp_path: Path) -> None:
    path = copied(lengths, tmp_path)
    without("v75-4", "v79-4")(path)
    for found, again in ((path, lengths), (lengths, path)):
        assert "a new compilation has v75" in str(QnnArtifact(found).unlike(QnnArtifact(again)))
