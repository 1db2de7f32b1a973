"""Each field of each kind of message in a Core ML package, an ONNX file and a Core AI asset, changed once: it is seen,
or it stands here with the reason why not."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conversions import Store
from faults import coreai_edits
from faults.fields import is_another, spread
from faults.files import Files, require

from mobileclip_deploy.targets import Artifact, get_target
from mobileclip_deploy.targets.coreai.asset import operations

pytestmark = pytest.mark.slow

Address = tuple[tuple[str, Any], ...]
"""From a message down to a field: names, each with the place in a list, the key of a map, or None."""


def addresses(message: Any, before: Address = ()) -> Iterator[tuple[str, Address]]:
    """Each field that is set and no message: `Kind.field`, and where it is. Of a list of numbers the first."""
    for field, value in message.ListFields():
        several = field.is_repeated
        places = list(value.keys()) if hasattr(value, "keys") else range(len(value)) if several else [None]
        for place in places:
            below = (*before, (field.name, place))
            one = value if place is None else value[place]
            if hasattr(one, "ListFields"):
                yield from addresses(one, below)
            else:
                yield f"{message.DESCRIPTOR.name}.{field.name}", below
                break


def change(message: Any, address: Address) -> None:
    """Make what is there another, of the same type."""
    *way, (name, place) = address
    for step, key in way:
        message = getattr(message, step) if key is None else getattr(message, step)[key]
    value = getattr(message, name) if place is None else getattr(message, name)[place]
    enumeration = message.DESCRIPTOR.fields_by_name[name].enum_type
    if enumeration is not None:
        numbers = sorted(one.number for one in enumeration.values)
        other: Any = numbers[(numbers.index(value) + 1) % len(numbers)]
    elif isinstance(value, bytes):
        middle = len(value) // 2
        other = value[:middle] + bytes([value[middle] ^ 64]) + value[middle + 1 :] if value else b"x"
    elif isinstance(value, str):
        other = value + "_"
    else:
        other = not value if isinstance(value, bool) else value ^ 1 if isinstance(value, int) else value * 1.5 + 1
    if place is None:
        setattr(message, name, other)
    else:
        getattr(message, name)[place] = other


def unseen(own: Artifact, message: bytes, kind: Any, write: Any) -> set[str]:
    """Fields of which an instance is changed and nobody sees it.

    Args:
        kind: the class of the message.
        write: writes a changed one, and gives the artifact opened.
    """
    found: dict[str, list[Address]] = {}
    for name, address in addresses(kind.FromString(message)):
        found.setdefault(name, []).append(address)
    missed = set()
    for name, address in ((name, one) for name, places in found.items() for one in spread(places)):
        changed = kind.FromString(message)
        change(changed, address)
        assert changed.SerializeToString() != message
        if not is_another(write(changed.SerializeToString()), own):
            missed.add(name)
    return missed


COREML_HARMLESS = {
    "FeatureDescription.shortDescription": "for people",
    "Metadata.author": "for people",
    "Metadata.license": "for people: the manifest says it",
    "Metadata.shortDescription": "for people",
    "Metadata.userDefined": "compared by `settings`, not read into the graph",
    "Metadata.versionString": "for people",
    "Program.version": "there is one",
    "RepeatedStrings.values": "how coremltools was called",
    "TensorType.dataType": "of a value between operations: the reader takes it from what computes it",
}


@pytest.mark.parametrize(("tower", "precision"), [("text", "w4p-iOS18"), ("image", "w8a8-iOS17")])
def test_every_field_of_a_core_ml_package(tower: Any, precision: str, tmp_path: Path, store: Store) -> None:
    from targets.mil.programs import quiet

    with quiet():
        from coremltools.proto import Model_pb2

    path = Files(store).path("coreml", tower, precision)
    copy = Path(shutil.copytree(path, tmp_path / path.name))
    specification = copy / "Data" / "com.apple.CoreML" / "model.mlmodel"
    target = get_target("coreml")

    def write(content: bytes) -> Artifact:
        specification.write_bytes(content)
        return target.open(copy)

    missed = unseen(target.open(path), specification.read_bytes(), Model_pb2.Model, write)
    assert sorted(missed - set(COREML_HARMLESS)) == []


ONNX_HARMLESS = {
    "Dimension.dim_param": "what a free dimension is called",
    "GraphProto.doc_string": "for people",
    "GraphProto.name": "for people",
    "ModelProto.doc_string": "for people",
    "ModelProto.ir_version": "runtimes refuse what they do not know; the operator sets decide what is computed",
    "ModelProto.producer_name": "for people",
    "ModelProto.producer_version": "for people",
    "NodeProto.doc_string": "for people",
    "NodeProto.name": "for people: values are found by the names of outputs",
    "StringStringEntryProto.key": "for people",
    "StringStringEntryProto.value": "for people",
    "TensorProto.doc_string": "for people",
    "ValueInfoProto.doc_string": "for people",
}


@pytest.mark.parametrize(("tower", "precision"), [("text", "w4"), ("image", "w8a8")])
def test_every_field_of_an_onnx_file(tower: Any, precision: str, tmp_path: Path, store: Store) -> None:
    import onnx

    path = Files(store).path("onnx", tower, precision)
    target = get_target("onnx")

    def write(content: bytes) -> Artifact:
        (tmp_path / path.name).write_bytes(content)
        return target.open(tmp_path / path.name)

    missed = unseen(target.open(path), path.read_bytes(), onnx.ModelProto, write)
    assert sorted(missed - set(ONNX_HARMLESS)) == []


def test_every_attribute_and_number_of_a_core_ai_asset(tmp_path: Path, store: Store) -> None:
    require("coreai")
    from mobileclip_deploy.targets.coreai.asset import Asset

    path, target = Files(store).path("coreai", "image", "w4"), get_target("coreai")
    own = target.open(path)
    missed, refused = [], []
    for name, plants in settings(Asset(path)):
        copy = tmp_path / "other.aimodel"
        if not any(written(path, plant, copy) for plant in plants):
            refused.append(name)
        elif not is_another(target.open(copy), own):
            missed.append(name)
    assert missed == []
    assert sorted(set(refused) - set(COREAI_REFUSED)) == []


COREAI_REFUSED = {
    "coreai.conv2d operand 4": "groups: the shapes of input and weight leave one number",
    "coreai.reshape operand 1": "a shape: the type of the result says it",
}
"""What Apple's verifier takes no other value of, so that no such file exists."""


def written(path: Path, plant: Any, copy: Path) -> bool:
    """Whether an asset with this edit gets past Apple's verifier."""
    shutil.rmtree(copy, ignore_errors=True)
    try:
        coreai_edits.edited(path, plant, copy)
    except Exception:  # of several kinds: a parser's, the verifier's, the writer's
        return False
    return True


def settings(asset: Any) -> Iterator[tuple[str, Iterator[Any]]]:
    """Each attribute and each constant operand of each kind of operation, with edits of it: the first that Apple's
    verifier takes is judged."""
    kinds = {one.name for graph in asset.graphs.values() for one in operations(graph)}
    for kind in sorted(kinds - {"coreai.constant"}):
        every = coreai_edits.found(asset, kind)
        last = len(every) - 1
        for attribute in every[last].attributes:
            texts = [other for one in every for other in others(str(one.attributes[attribute.name]))]
            edits: list[Any] = [coreai_edits.attribute(kind, attribute.name, text) for text in texts]
            yield f"{kind} {attribute.name}", iter([another_called] if attribute.name == "callee" else edits)
        for place, operand in enumerate(every[last].operands):
            if getattr(operand.owner, "name", None) == "coreai.constant":
                every_one = ((number, change) for change in CHANGES for number in range(last, max(last - 3, -1), -1))
                yield f"{kind} operand {place}", (coreai_edits.number(kind, place, one, at) for at, one in every_one)


ENUMERATED = {
    "#coreai.approximate<": ("none", "tanh"),
    "#coreai.padding_mode<": ("constant", "reflect", "replicate", "symmetric", "circular"),
}


def others(text: str) -> Iterator[str]:
    """Texts of other attributes of a kind: another of those that can be enumerated, or its first number raised by
    one."""
    for start, names in ENUMERATED.items():
        if text.startswith(start):
            yield from (other for name in names if (other := f"{start}{name}>") != text)
    if found := re.search(r"(?<![\w.])\d+(?![\w.])", text):
        yield text[: found.start()] + str(int(found[0]) + 1) + text[found.end() :]


def another_called(asset: Any) -> None:
    """The last call is of another function: a copy of the one that it calls, with another factor in it."""
    from coreai._compiler.ir import Attribute, InsertionPoint, Location, StringAttr

    call = coreai_edits.found(asset, coreai_edits.CALL)[-1]
    told = str(call.attributes["callee"])
    name = next(name for name in asset.graphs if f"@{name}>" in told)
    with asset.module.context, Location.unknown():
        copy = asset.graphs[name].operation.clone(ip=InsertionPoint(asset.graphs[name].operation))
        copy.attributes["sym_name"] = StringAttr.get("another")
        call.attributes["callee"] = Attribute.parse(told.replace(f"@{name}>", "@another>"))
    scaled = next(one for one in operations(copy) if one.name == "coreai.decomposable.broadcasting_mul")
    coreai_edits.changed(asset, scaled, 1, lambda values: values * values.dtype.type(1.5))


def larger(values: Any) -> Any:
    if values.dtype == np.bool_:
        return ~values
    flat = values.reshape(-1)
    flat[flat.size // 2] += values.dtype.type(1)
    return None


def exchanged(values: Any) -> Any:
    """Its first two numbers that differ, each in the place of the other: another order, or another shape of as many."""
    flat = values.reshape(-1)
    (unlike,) = np.nonzero(flat != flat[:1])
    assert len(unlike)
    flat[[0, unlike[0]]] = flat[[unlike[0], 0]]
    return None


def exchanged_last(values: Any) -> Any:
    flat = values.reshape(-1)
    flat[-2:] = flat[-2:][::-1].copy()
    assert flat[-2] != flat[-1]
    return None


CHANGES = (larger, exchanged, exchanged_last)
