"""Screen output of `inspect`: one screen of lines for a bundle, an artifact or a checkpoint. For an artifact with
functions, a Core ML package or a Core AI asset: its tables."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobileclip_deploy.cli.output import megabytes, print_table, print_terms
from mobileclip_deploy.cli.tables import decibels, figure, relative
from mobileclip_deploy.cli.terminal import say
from mobileclip_deploy.cli.words import in_flags
from mobileclip_deploy.network.model.precision import precision_label, precision_of

if TYPE_CHECKING:
    from mobileclip_deploy.artifacts.bundle import Bundle, Manifest
    from mobileclip_deploy.artifacts.bundle.manifest import TensorEntry
    from mobileclip_deploy.verify.inspect import inspection as kinds

Terms = Iterator[tuple[str, str]]
SHOWN = 12
TASK = {"top1": "top-1", "image_to_text_recall@1": "recall@1"}


def print_bundle(bundle: Bundle, found: kinds.BundleInspection) -> None:
    """Prints a bundle's identity, its inputs and outputs, its deviation from its checkpoint, and next commands."""
    from mobileclip_deploy.targets import installed_target

    manifest, name = bundle.manifest, installed_target(found.target).title
    which = f"{manifest.variant}{' (built in)' if manifest.checkpoint.builtin else ''}"
    kind = "a classifier" if manifest.classifier else _towers_named(tuple(manifest.towers))
    precision = precision_label({tower: entry.precision for tower, entry in manifest.towers.items()})
    options = ", ".join(f"{option} {value}" for option, value in manifest.options.items())
    summary = (
        f"{which} for {name}{f' ({options})' if options else ''}: {kind}, {precision}, {megabytes(bundle.bytes)} MB"
    )
    print_terms([("bundle", f"{bundle.path}"), ("", summary), *_towers(manifest, found), *_around(bundle, found)])


def _towers_named(towers: tuple[str, ...]) -> str:
    return f"{' and '.join(towers)} tower{'s' if len(towers) > 1 else ''}"


def _towers(manifest: Manifest, found: kinds.BundleInspection) -> Terms:
    for tower, entry in manifest.towers.items():
        operators = f"{found.towers[tower].operators:,} operators"
        function = "" if entry.function is None else f", function {entry.function}"
        yield "", ""
        yield tower, f"{entry.file}{function}, {megabytes(entry.bytes)} MB, {operators}"
        yield "", f"{entry.precision}: {precision_of(entry.precision).summary}"
        ids = "" if tower != "text" or manifest.tokenizer is None else f", ids: {manifest.tokenizer.described}"
        contexts = "" if entry.contexts is None else f"; of {', '.join(map(str, entry.contexts))} tokens"
        yield "", f"takes {_tensor(entry.input)}{ids}{contexts}"
        yield "", f"gives {_answer(manifest, entry.output)}"
        for subject, fact in (found.towers[tower].facts or {}).items():
            yield "", f"{subject}: {fact}"
        for kind, attached in (entry.attachments or {}).items():
            yield "", f"next to it {attached.file}, {megabytes(attached.bytes)} MB ({kind.replace('_', ' ')})"
    yield "", ""


def _tensor(entry: TensorEntry) -> str:
    if entry.any_size:
        return f"{entry.name}: one picture of any size, its bytes [height, width, channels]"
    if entry.colour is not None and entry.dtype == "uint8":
        return f"{entry.name}: an {entry.colour} picture of {' x '.join(map(str, entry.shape[-2:]))} pixels"
    within = "" if entry.range is None else f", from {entry.range[0]:g} to {entry.range[1]:g}"
    return f"{entry.name}: {entry.dtype} [{', '.join(str(size or 'N') for size in entry.shape)}]{within}"


def _answer(manifest: Manifest, entry: TensorEntry) -> str:
    shape = f"{entry.name}: {entry.dtype} [{', '.join(str(size or 'N') for size in entry.shape)}]"
    if manifest.classifier is not None:
        labels = manifest.classifier.labels
        named = ", ".join(labels[:SHOWN]) + (", ..." if len(labels) > SHOWN else "")
        return f"{shape}, a probability for each of {len(labels)} labels: {named}"
    return f"{shape}, {'of length 1' if entry.normalised else 'not normalised'}"


def _around(bundle: Bundle, found: kinds.BundleInspection) -> Terms:
    manifest = bundle.manifest
    if "image" in manifest.towers:
        yield "pictures", _pictures(manifest)
    if "text" in manifest.towers:
        yield "prompts", f"{manifest.template!r}; logit scale {manifest.logit_scale:.4g}"
    yield "proof", _proof(bundle, found)
    yield "licence", f"of the weights: {found.licence}{_uses(found)}"
    if manifest.licence is not None:
        yield "", f"texts: {', '.join(entry.file for entry in manifest.licence.files)}"
    yield "space", f"{found.embedding_space}: embeddings of other spaces cannot be compared with these"
    packages = ", ".join(f"{name} {version}" for name, version in found.environment.items())
    yield "made of", f"{found.checkpoint} ({manifest.checkpoint.layout} layout), with {packages}"
    artifacts = {Path(entry.file).parts[0] for entry in manifest.towers.values()}
    others = sorted(path for path in bundle.path.iterdir() if path.name not in artifacts)
    yield "beside", ", ".join(f"{path.name}/" if path.is_dir() else path.name for path in others)
    yield "", ""
    yield from _next(bundle)


def _pictures(manifest: Manifest) -> str:
    steps = f"{manifest.preprocess.described}, RGB"
    if manifest.towers["image"].input.any_size:
        return f"{steps}: the file does all of it"
    divided = "" if manifest.towers["image"].input.dtype == "uint8" else ", divided by 255"
    return f"{steps}{divided}; mean and std are inside"


def _proof(bundle: Bundle, found: kinds.BundleInspection) -> str:
    checks = bundle.parity
    if not checks:
        return f"none was made when it was exported: {_command('verify', bundle.path)}"
    texts = [f"{check.tower} {check.step} {check.status}" for check in checks if check.status in ("failed", "not run")]
    ran = [check for check in checks if check.status != "not run"]
    # For each tower the engine that deviates most: it may have run on several.
    shipped = [
        (check.deviation.relative, check) for check in ran if check.step == "shipped" and check.deviation is not None
    ]
    worst = {check.tower: check for _, check in sorted(shipped, key=lambda each: each[0])}
    near = ", ".join(f"{tower} {relative(worst[tower])} ({decibels(worst[tower])} dB)" for tower in sorted(worst))
    task = [f"{name} % {figure(check, key)}" for check in ran for key, name in TASK.items() if figure(check, key)]
    state = "FAILED" if found.parity == "failed" else found.parity
    texts = [f"{state}, {len(ran)} of {len(checks)} checks ran", *texts[:SHOWN]]
    return "; ".join([*texts, *([f"embeddings deviate by {near} at worst"] if near else []), *task])


def _uses(found: kinds.BundleInspection | kinds.CheckpointInspection) -> str:
    uses = found.uses
    return "" if uses is None else f"; {', '.join(f'{use}: {uses[use].answer}' for use in uses)} (docs/licences.md)"


def _next(bundle: Bundle) -> Terms:
    from mobileclip_deploy.targets import found_places, installed_target

    path, manifest = bundle.path, bundle.manifest
    commands = [_command("verify", path)]
    if "image" in manifest.towers:
        labels = () if manifest.classifier else ("--labels", "cat,dog")
        if manifest.classifier or "text" in manifest.towers:
            commands.append(_command("classify", path, "PICTURE.jpg", *labels))
    # Core ML has no place on Linux, and emulators are left out.
    if found_places(installed_target(manifest.target), "host", manifest.options):
        commands.append(_command("benchmark", path, "--device", "host", "--quick"))
    for index, command in enumerate(commands):
        yield "next" if not index else "", command


def _command(name: str, path: Path, *words: str) -> str:
    return " ".join(["mobileclip-deploy", name, _word(path), *words])


def _word(path: Path) -> str:
    """Returns a path as a word of a command line; a leading dash does not make it an option."""
    text = os.fspath(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def print_artifact(path: Path, found: kinds.ArtifactInspection) -> None:
    """Prints an artifact's inputs, outputs and contents."""
    rows = [
        (found.kind.partition(" ")[2], f"{path}: {found.kind.partition(' ')[0]}, {megabytes(found.bytes)} MB"),
        ("takes", _tensor(found.input)),
        ("gives", _tensor(found.output)),
        ("operators", f"{found.operators:,}: " + ", ".join(f"{name} {count}" for name, count in found.by_type.items())),
    ]
    rows += [
        (kind.replace("_", " "), ", ".join(f"{name} {count:,}" for name, count in counts.items()))
        for kind, counts in found.contents.items()
        if counts
    ]
    print_terms([*rows, *(found.facts or {}).items()])


def print_file(path: Path, found: kinds.FileInspection) -> None:
    """Prints the inputs and outputs of a file that other tools wrote, and the command to check it."""
    rows = [("file", f"{path}: {found.kind.partition(' ')[0]}, {megabytes(found.bytes)} MB, on {found.engine}")]
    for title, ports in (("takes", found.inputs), ("gives", found.outputs)):
        rows += [(title, f"{port.name} {port.dtype} {list(port.shape)}") for port in ports]
    rows += [("operators", ", ".join(found.operators)), ("next", _command("audit", path, "--checkpoint", "WEIGHTS"))]
    print_terms(rows)


def print_checkpoint(path: Path, found: kinds.CheckpointInspection) -> None:
    """Prints a checkpoint's network, and the command to export it."""
    towers = _towers_named(found.towers)
    rows = [
        ("checkpoint", f"{path}: {found.variant}, {towers}, in its {found.form} form"),
        ("layout", found.layout),
        ("holds", f"{found.parameters:,} parameters in {found.tensors:,} tensors, {megabytes(found.bytes)} MB"),
        ("licence", f"of the weights: {found.licence}{_uses(found)}"),
        ("sha256", found.sha256),
        *(("note", in_flags(text)) for text in found.notes),
        (
            "next",
            " ".join([f"mobileclip-deploy export --target all --checkpoint {_word(path)}", *found.options, "-o out/"]),
        ),
    ]
    print_terms(rows)


def print_package(path: str, told: dict[str, Any]) -> None:
    """Prints the record of a target's own `inspect`."""
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
        [kind, f"{entry['tensors']:,}", f"{entry['elements']:,}", f"{entry['bytes']:,}", _share(entry, function)]
        for kind, entry in function["weights"].items()
    ]
    print_table(None, ["weights", ">tensors", ">elements", ">bytes", ">share"], weights)
    largest = [
        [
            entry["name"],
            _shape(entry["shape"]),
            entry["kind"],
            f"{entry['bits']:g}",
            f"{entry['bytes']:,}",
            _share(entry, function),
        ]
        for entry in function["largest"]
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
