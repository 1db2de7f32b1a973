"""What a client reads in a bundle's manifest, and refuses before anything is loaded: clients/vectors/manifests.json."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from mobileclip_deploy.artifacts.bundle.manifest import Manifest

NEWEST_SCHEMA = 2
Content = dict[str, Any]


def manifest_vectors() -> Content:
    """Manifests as text. `target`: which clients are meant; those that cannot run it at all pass over the case. `code`:
    null, and then what a client tells of it; or the error's."""
    good = [{"what": what, "target": told["target"], "code": None} | _told(told) for what, told in _good()]
    bad = [{"what": what, "target": "onnx", "code": code, "manifest": text} for what, code, text in _bad()]
    return {"schema_version": 1, "newest_schema": NEWEST_SCHEMA, "cases": [*good, *bad]}


def read_by_python(text: str) -> Manifest:
    """The same text, as the toolkit itself reads it."""
    return Manifest.model_validate_json(text)


def _base() -> Content:
    def tower(kind: str, file: str, given: Content) -> Content:
        output = {"name": f"{kind}_embeds", "dtype": "float32", "shape": [0, 128], "normalised": False}
        return {"file": file, "sha256": "0" * 64, "bytes": 1, "precision": "fp16", "input": given, "output": output}

    pixels = {"name": "pixel_values", "dtype": "float32", "shape": [0, 3, 64, 64], "range": [0.0, 1.0], "colour": "RGB"}
    ids = {"name": "input_ids", "dtype": "int64", "shape": [0, 77]}
    return {
        "schema_version": NEWEST_SCHEMA,
        "variant": "nano",
        "embedding_space": "nano-0000000000000000",
        "checkpoint": _checkpoint(),
        "target": "onnx",
        "towers": {
            "image": tower("image", "onnx/vision_model_fp16.onnx", pixels),
            "text": tower("text", "onnx/text_model_fp16.onnx", ids),
        },
        "embed_dim": 128,
        "int8_scale": 0.0034,
        "logit_scale": 43.25,
        "template": "a photo of a {}",
        "tokenizer": {"vocab_size": 49408, "context_length": 77, "sot": 49406, "eot": 49407, "pad": 0},
        "preprocess": {
            "size": 64,
            "resize": "shorter_side",
            "crop": "center",
            "interpolation": "bilinear",
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
            "where": "graph",
        },
        "environment": {"mobileclip-deploy": "0.4.0"},
    }


def _checkpoint() -> Content:
    return {
        "variant": "nano",
        "layout": "apple",
        "sha256": "0" * 64,
        "file": "weights.safetensors",
        "licence": "MIT",
        "research_only": False,
        "towers": ["image", "text"],
        "notes": [],
    }


def _good() -> Iterator[tuple[str, Content]]:
    yield "both towers", _base()
    yield "the schema before", _base() | {"schema_version": 1}
    alone = _base()
    del alone["towers"]["text"], alone["tokenizer"]
    yield "the image tower alone, of a variant without texts", alone
    squash = _changed({"preprocess": {"resize": "squash", "interpolation": "bicubic"}})
    squash["tokenizer"]["context_length"] = squash["towers"]["text"]["input"]["shape"][1] = 32
    yield "squeezed pictures and texts of 32 tokens", squash
    compact = _base() | {"embed_dim": 64}
    for tower in compact["towers"].values():
        tower["output"]["shape"] = [0, 64]
    yield "a compact size", compact
    yield "what the crop keeps", _changed({"preprocess": {"crop_fraction": 0.9}})
    yield "Core ML", _core_ml()


def _core_ml() -> Content:
    told = _base() | {"target": "coreml"}
    for kind, given in (
        ("image", {"name": "image", "dtype": "uint8", "shape": [1, 3, 64, 64], "range": [0.0, 255.0], "colour": "RGB"}),
        ("text", {"name": "text", "dtype": "int32", "shape": [1, 77]}),
    ):
        told["towers"][kind] |= {"file": f"nano_{kind}.mlpackage", "input": given}
        told["towers"][kind]["output"] |= {"name": "final_emb_1", "shape": [1, 128]}
    return told


def _told(manifest: Content) -> Content:
    text = json.dumps(manifest)
    read = read_by_python(text)
    found = {
        "embedding_space": read.embedding_space,
        "embed_dim": read.embed_dim,
        "logit_scale": read.logit_scale,
        "template": read.template,
        "context_length": read.context_length,
        "image_size": read.preprocess.size,
        "towers": sorted(read.towers),
    }
    return {"manifest": text, "found": found}


def _changed(changes: Content) -> Content:
    return _merged(_base(), changes)


def _merged(whole: Content, changes: Content) -> Content:
    found = copy.deepcopy(whole)
    for key, value in changes.items():
        found[key] = _merged(found.get(key, {}), value) if isinstance(value, dict) else value
    return found


def _without(key: str) -> Content:
    found = _base()
    del found[key]
    return found


def _bad() -> Iterator[tuple[str, str, str]]:
    yield "a newer schema", "newer", json.dumps(_base() | {"schema_version": 3})
    newer = {"schema_version": 3, "what": "nothing of it is known"}
    yield "a newer schema with other fields", "newer", json.dumps(newer)
    yield "a schema that is no number", "bundle", json.dumps(_base() | {"schema_version": "2"})
    yield "schema 0", "bundle", json.dumps(_base() | {"schema_version": 0})
    yield "no schema", "bundle", json.dumps(_without("schema_version"))
    yield "no JSON", "bundle", "<html>not found</html>"
    yield "cut in the middle", "bundle", json.dumps(_base())[:400]
    yield "empty", "bundle", ""
    yield "JSON, and no object", "bundle", "[1, 2]"
    yield "a target that nobody knows", "bundle", json.dumps(_base() | {"target": "abacus"})
    for key in ("embedding_space", "towers", "preprocess", "logit_scale", "embed_dim"):
        yield f"no {key}", "bundle", json.dumps(_without(key))
    yield "no towers in it", "bundle", json.dumps(_base() | {"towers": {}})
    yield "a text tower without a tokenizer", "bundle", json.dumps(_without("tokenizer"))
    yield "a tokenizer of another kind", "bundle", json.dumps(_changed({"tokenizer": {"kind": "sentencepiece"}}))
    joint = {tower: {"file": "onnx/model.onnx", "function": tower} for tower in ("image", "text")}
    yield "one file of both towers", "bundle", json.dumps(_changed({"towers": joint}))
    yield "pixels from -1 to 1", "bundle", _of_image({"range": [-1.0, 1.0]})
    yield "pixels of another size", "bundle", _of_image({"shape": [0, 3, 32, 32]})
    yield "pixels in another order", "bundle", _of_image({"shape": [0, 64, 64, 3]})
    short = {"towers": {"text": {"input": {"shape": [0, 64]}}}}
    yield "texts of another length than the tokenizer's", "bundle", json.dumps(_changed(short))
    yield "a filter that is not known", "bundle", json.dumps(_changed({"preprocess": {"interpolation": "lanczos"}}))
    yield "a way of resizing that is not known", "bundle", json.dumps(_changed({"preprocess": {"resize": "longest"}}))
    for place in (
        "../../secret.onnx",
        "%2e%2e/secret.onnx",
        "onnx/%2E%2E/%2E%2E/x",
        "/etc/x",
        "..\\x",
        "onnx//x",
        "./x",
        "",
    ):
        yield f"the file {place!r}", "bundle", json.dumps(_changed({"towers": {"image": {"file": place}}}))
    for key in ("image", "text"):
        yield f"the {key} tower null", "bundle", json.dumps(_base() | {"towers": _base()["towers"] | {key: None}})
    for towers in ([], [{}], "image", 3, {"image": 3}):
        yield f"the towers {json.dumps(towers)}", "bundle", json.dumps(_base() | {"towers": towers})
    for key, value in (("embed_dim", 1.5), ("template", 3), ("tokenizer", [])):
        yield f"{key} {value!r}", "bundle", json.dumps(_base() | {key: value})
    yield "logit_scale 1e999", "bundle", json.dumps(_base() | {"logit_scale": 7.5}).replace("7.5", "1e999")
    for size in (0, -64, 64.5, None):
        yield f"the size {size!r}", "bundle", json.dumps(_changed({"preprocess": {"size": size}}))
    for share in (0, -0.5, 1.5):
        yield f"the crop {share!r}", "bundle", json.dumps(_changed({"preprocess": {"crop_fraction": share}}))
    for shape in (None, "3", [0, 3, 64, 64.5], [0, 3, 64, 64, 1], []):
        yield f"the shape {json.dumps(shape)}", "bundle", _of_image({"shape": shape})
    for value in (True, 0, [0], "01", [None, None]):
        yield f"the range {json.dumps(value)}", "bundle", _of_image({"range": value})
    yield from _twice()


def _twice() -> Iterator[tuple[str, str, str]]:
    """A key twice in one object: readers of JSON differ in which they take."""
    whole = json.dumps(_base())
    yield "a key twice", "bundle", whole[:-1] + ', "template": "{}"}'
    yield "the key twice, the wrong one first", "bundle", '{"logit_scale": 1.0, ' + whole[1:]
    yield "a key twice, spelled with an escape", "bundle", whole[:-1] + ', "templ\\u0061te": "{}"}'
    yield "a key twice within", "bundle", whole.replace('"size": 64', '"size": 32, "size": 64')


def _of_image(changes: Content) -> str:
    return json.dumps(_changed({"towers": {"image": {"input": changes}}}))
