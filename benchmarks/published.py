"""Published figures of our cards and of the paper's peers, with their sources, and the chart of the family.

    python benchmarks/published.py      # docs/figures/published.md and accuracy_latency.svg

Nothing here is measured. Each figure of benchmarks/published.json names its source; `missing` lists what was
not found.
"""

from collections.abc import Iterable
from pathlib import Path

from measuring import ROOT, markdown
from pydantic import BaseModel

from mobileclip_deploy.benchmark.report.drawing import draw, svg
from mobileclip_deploy.benchmark.report.points import IMAGENET, Figure, published
from mobileclip_deploy.benchmark.suite.tasks import APPLE_REPOSITORIES

DATA = ROOT / "benchmarks" / "published.json"
FOLDER = ROOT / "docs" / "figures"
PAGE, CHART = "published.md", "accuracy_latency.svg"
COLUMNS = {
    "ImageNet top-1, %": ("imagenet_top1",),
    "38 datasets, %": ("average_38",),
    "Flickr recall@1, %: text to image, image to text": (
        "flickr_text_to_image_recall1",
        "flickr_image_to_text_recall1",
    ),
    "COCO recall@1, %: text to image, image to text": ("coco_text_to_image_recall1", "coco_image_to_text_recall1"),
    "ms, image + text": ("image_ms", "text_ms"),
    "parameters, M, image + text": ("image_parameters", "text_parameters"),
}


class Source(BaseModel, frozen=True, extra="forbid"):
    """A publication: `date` is that of the version that was read, or of the reading."""

    title: str
    address: str
    date: str


class Quoted(BaseModel, frozen=True, extra="forbid"):
    """A figure, and the key of its source."""

    value: float
    source: str


class Row(BaseModel, frozen=True, extra="forbid"):
    """The figures of one network; `card` is None for a peer without a card."""

    name: str
    card: str | None = None
    figures: dict[str, Quoted]

    def both(self, unit: str) -> float:
        """Sum of the image and the text tower."""
        return self.figures[f"image_{unit}"].value + self.figures[f"text_{unit}"].value


class Published(BaseModel, frozen=True, extra="forbid"):
    """The file of the figures."""

    schema_version: int
    sources: dict[str, Source]
    missing: tuple[str, ...]
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """Returns the figures of a network."""
        return next(row for row in self.rows if row.name == name)


def read() -> Published:
    """Returns the figures."""
    return Published.model_validate_json(DATA.read_bytes())


def page(told: Published) -> str:
    """Returns the page."""
    letters = dict(zip(told.sources, "abcdefghijklmnopqrstuvwxyz", strict=False))
    rows = [
        [row.name, f"`{row.card}`" if row.card else "", *(_cell(row, keys, letters) for keys in COLUMNS.values())]
        for row in told.rows
    ]
    parts = [
        "# Published figures",
        "Made by `python benchmarks/published.py` from `benchmarks/published.json`. Others measured all of them. "
        "Latencies are of an iPhone 12 Pro Max. Letters name the sources.",
        f"![Accuracy against latency, as published]({CHART})",
        "The same chart with your results, marked apart: `mobileclip-deploy report result.json -o figure.svg`. Your "
        "own accuracy next to these figures: `mobileclip-deploy evaluate --suite datacomp` "
        "([more](../evaluation.md)).",
        "\n".join(markdown(("network", "card", *COLUMNS), rows)),
        "## Sources",
        "\n".join(
            f"- {letters[key]}: [{source.title}]({source.address}), {source.date}"
            for key, source in told.sources.items()
        ),
        f"`{APPLE_REPOSITORIES[0]}` is `{APPLE_REPOSITORIES[1]}` in newer public files. It is not known if the old "
        "name redirects.",
        "## Claims of the papers",
        "\n".join(f"- {claim}" for claim in _claims(told)),
        "## Not found",
        "\n".join(f"- {text}" for text in told.missing),
    ]
    return "\n\n".join(parts) + "\n"


def _cell(row: Row, keys: Iterable[str], letters: dict[str, str]) -> str:
    figures = [row.figures[key] for key in keys if key in row.figures]
    if not figures:
        return ""
    joint = " + " if any(key.endswith(("_ms", "_parameters")) for key in keys) else ", "
    return f"{joint.join(f'{figure.value:.1f}' for figure in figures)} ({letters[figures[0].source]})"


def _claims(told: Published) -> Iterable[str]:
    """Each claim with the rows that it compares."""
    s0, s2, b = (told.row(f"MobileCLIP-{name}") for name in ("S0", "S2", "B"))
    openai, siglip = told.row("CLIP ViT-B/16 (OpenAI)"), told.row("SigLIP ViT-B/16 (WebLI)")
    ours, best = (row.figures["average_38"].value for row in (b, siglip))
    yield (
        f'"+2.9%" on 38 datasets by training a ViT-B/16: {b.name} ({ours:.1f}) and {siglip.name} ({best:.1f}), '
        f"{ours - best:+.1f} points."
    )
    yield (
        f'"4.8x faster and 2.8x smaller": {openai.name} and {s0.name}, image and text together: '
        f"{openai.both('ms'):.1f} / {s0.both('ms'):.1f} ms = {openai.both('ms') / s0.both('ms'):.1f}; "
        f"{openai.both('parameters'):.1f} / {s0.both('parameters'):.1f} M parameters = "
        f"{openai.both('parameters') / s0.both('parameters'):.1f}."
    )
    yield (
        f'"2.3x faster and 2.1x smaller": {siglip.name} and {s2.name}, image and text together: '
        f"{siglip.both('parameters'):.1f} / {s2.both('parameters'):.1f} M parameters = "
        f"{siglip.both('parameters') / s2.both('parameters'):.2f}. {s2.name} takes {s2.both('ms'):.1f} ms; the latency "
        f"of {siglip.name} was not found. Both pairs were measured here, on CPUs: "
        "[the paper's pairs](benchmarks.md#the-papers-pairs)."
    )
    yield (
        '"10x to 1000x" learning efficiency: [what nano shows of it, and what it does not]'
        "(training.md#learning-efficiency)."
    )


def main() -> None:
    """Writes the page and the chart."""
    write(FOLDER)


def write(folder: Path) -> None:
    """Writes both into a folder."""
    (folder / PAGE).write_text(page(read()), encoding="utf-8")
    family = Figure("iPhone 12 Pro Max, image + text", IMAGENET, (), published())
    (folder / CHART).write_text(svg([draw(family)]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
