"""The tables that `inspect` prints of an artifact with functions: a Core ML package, a Core AI asset."""

from __future__ import annotations

from typing import Any

from mobileclip_deploy.cli.output import megabytes, print_table
from mobileclip_deploy.cli.terminal import say


def print_package(path: str, told: dict[str, Any]) -> None:
    """Print what a target's `inspect` tells."""
    version, target = told["specification_version"], told["deployment_target"]
    say(f"{path}: {told['title']}, {megabytes(told['bytes'])} MB, {target} (specification version {version})")
    if told["metadata"]:
        print_table(None, ["metadata", ""], [[key, str(value)] for key, value in told["metadata"].items()])
    for name, function in told["functions"].items():
        if len(told["functions"]) > 1:
            say(f"function {name}")
        _print_function(function)


def _print_function(function: dict[str, Any]) -> None:
    ports = [("input", port) for port in function["inputs"]] + [("output", port) for port in function["outputs"]]
    print_table(None, ["", "name", "type", "shape", "range"], [_port(which, port) for which, port in ports])
    types = ", ".join(f"{kind} {count}" for kind, count in function["by_type"].items())
    precisions = ", ".join(f"{dtype} {count}" for dtype, count in function["by_precision"].items())
    say(f"{function['operations']} operations: {types}")
    say(f"computed in: {precisions}")
    if function["not_evaluated"]:
        unknown = ", ".join(f"{kind} {count}" for kind, count in function["not_evaluated"].items())
        say(f"unknown to this package's evaluator: {unknown}")
    weights = [
        [kind, f"{told['tensors']:,}", f"{told['elements']:,}", f"{told['bytes']:,}", _share(told, function)]
        for kind, told in function["weights"].items()
    ]
    print_table(None, ["weights", ">tensors", ">elements", ">bytes", ">share"], weights)
    largest = [
        [
            told["name"],
            _shape(told["shape"]),
            told["kind"],
            f"{told['bits']:g}",
            f"{told['bytes']:,}",
            _share(told, function),
        ]
        for told in function["largest"]
    ]
    print_table(None, ["largest tensors", "shape", "kind", ">bits each", ">bytes", ">share"], largest)


def _port(which: str, port: dict[str, Any]) -> list[str]:
    what = f"{port['colour']} image" if "colour" in port else port["dtype"]
    parts = []
    if "scale" in port:
        parts.append("0..255 times " + ", ".join(f"{value:.6g}" for value in port["scale"]))
    if "bias" in port:
        parts.append("plus " + ", ".join(f"{value:.6g}" for value in port["bias"]))
    if "shapes" in port:
        parts.append("one of " + ", ".join(_shape(shape) for shape in port["shapes"]))
    if "ranges" in port:
        parts.append("sizes " + ", ".join(f"{low} to {'any' if high < 0 else high}" for low, high in port["ranges"]))
    return [which, port["name"], what, _shape(port["shape"]), "; ".join(parts)]


def _shape(shape: list[int | None]) -> str:
    return " x ".join("?" if size is None else str(size) for size in shape)


def _share(told: dict[str, Any], function: dict[str, Any]) -> str:
    return f"{100 * told['bytes'] / max(function['weight_bytes'], 1):.1f}%"
