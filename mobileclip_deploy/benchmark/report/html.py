"""The report as one HTML file: no network, no library, readable with keyboard and screen reader."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from mobileclip_deploy.benchmark.judgement import run_warnings
from mobileclip_deploy.benchmark.report.drawing import svg
from mobileclip_deploy.benchmark.report.points import REFERENCE, Figure, device_name, figures
from mobileclip_deploy.benchmark.report.table import Field, columns, conditions, remarks, rows
from mobileclip_deploy.benchmark.result import Result

__all__ = ["html_page"]

TITLE = "MobileCLIP on devices"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def html_page(results: Sequence[Result]) -> str:
    """The whole page."""
    folder = files(__package__ or "")
    style, script = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    drawn = "".join(_figure(figure, number) for number, figure in enumerate(figures(results)))
    body = [f"<h1>{TITLE}</h1>", _lead(results)]
    body.append(f"<h2>Accuracy against latency</h2>{drawn}" if drawn else "")
    body += [_run(result, number) for number, result in enumerate(results)]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{style}</style></head>\n<body><main>{"".join(body)}</main>'
        f'<div id="announcement" role="status" aria-live="polite"></div><script>{script}</script></body></html>\n'
    )


def _lead(results: Sequence[Result]) -> str:
    names = ", ".join(dict.fromkeys(device_name(result) for result in results))
    cells = sum(len(result.cells) for result in results)
    text = f"<p>{cells} measurements in {len(results)} run{'s' * (len(results) != 1)} on {escape(names)}.</p>"
    if any(result.device.simulated for result in results):
        text += (
            '<p class="simulated">SIMULATED: some results come from a stand-in and not from a device. They are marked '
            "everywhere, and they are nobody's latencies.</p>"
        )
    return text


def _figure(figure: Figure, number: int) -> str:
    labels = "".join(f"<li>{escape(point.label)}: {point.x:.3g} ms, {point.y:.1f}%</li>" for point in figure.points)
    keys = '<span class="key"></span> measured here, with the 95% interval of the median'
    if figure.reference:
        keys += f' &nbsp; <span class="key published"></span> {REFERENCE}, by its authors: not measured here'
    return (
        f"<h3>{escape(figure.device)}</h3><figure>{svg(figure, number)}<figcaption>{escape(figure.accuracy)}. {keys}."
        f"<ol>{labels}</ol></figcaption></figure>"
    )


def _run(result: Result, number: int) -> str:
    name = escape(device_name(result))
    warnings = "".join(f"<li>{escape(text)}</li>" for text in run_warnings(result))
    noted = f'<div class="warnings" role="note" aria-label="warnings"><ul>{warnings}</ul></div>' if warnings else ""
    terms = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in conditions(result))
    return (
        f'<section aria-labelledby="run{number}"><h2 id="run{number}">{name}</h2>{noted}{_table(result)}'
        f"{_remarks(result)}<h3>Conditions</h3><dl>{terms}</dl>{_profiles(result)}</section>"
    )


def _table(result: Result) -> str:
    names = columns(result)
    lines = rows(result)
    numeric = [all(isinstance(row[index].value, float | int | None) for row in lines) for index in range(len(names))]
    heads = "".join(
        f'<th scope="col"{" class=number" if number else ""}><button type="button">{escape(name)}</button></th>'
        for name, number in zip(names, numeric, strict=True)
    )
    body = "".join(
        f'<tr class="{found.status}">{"".join(_cell(field) for field in row)}</tr>'
        for row, found in zip(lines, result.cells, strict=True)
    )
    caption = f"protocol {result.job.protocol.name}; press a column's name to sort by it"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="results of {escape(device_name(result))}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _remarks(result: Result) -> str:
    """Errors stand open; warnings, of which there are many on a busy machine, can be unfolded."""
    found = remarks(result)
    items = "".join(f"<li>{escape(label)}: {escape(text)}</li>" for label, text in found)
    opened = " open" if any(cell.status in ("failed", "invalid") for cell in result.cells) else ""
    return (
        f"<details{opened}><summary>Warnings in full ({len(found)})</summary><ul>{items}</ul></details>"
        if found
        else ""
    )


def _cell(field: Field) -> str:
    value = "" if field.value is None else f' data-value="{escape(str(field.value))}"'
    style = ' class="number"' if isinstance(field.value, float | int) else ""
    return f"<td{style}{value}>{escape(field.text)}</td>"


def _profiles(result: Result) -> str:
    """Operator times and placement, where there are any."""
    parts = []
    for cell, found in result.pairs():
        if found.profile:
            whole = sum(one.total_ns for one in found.profile)
            items = "".join(
                f"<li>{escape(one.operator)}: {one.calls} calls, {one.total_ns / 1e6:.3g} ms"
                f" ({one.total_ns / whole:.0%})</li>"
                for one in found.profile[:12]
            )
            parts.append(f"<details><summary>Operators of {escape(cell.label)}</summary><ol>{items}</ol></details>")
        if found.placement:
            items = "".join(
                f"<li>{escape(one.unit)}: {one.operations} operations"
                + (f", {one.cost_share:.0%} of the predicted cost" if one.cost_share is not None else "")
                + "</li>"
                for one in found.placement
            )
            parts.append(f"<details><summary>Placement of {escape(cell.label)}</summary><ul>{items}</ul></details>")
    return f"<h3>Inside</h3>{''.join(parts)}" if parts else ""
