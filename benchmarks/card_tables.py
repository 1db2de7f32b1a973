"""The tables of docs/licences.md, choose_model.md and variants.md, from the cards and the licence texts they name.

    python benchmarks/card_tables.py                # seconds; tests/docs/test_card_tables.py fails where a page differs
    python benchmarks/card_tables.py --operations   # also counts operations and folded parameters of every card anew

Counts are of networks on torch's meta device, which computes nothing: they depend on the card alone.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence

from measuring import ROOT, Figures
from subjects import siglip_variant

from mobileclip_deploy.benchmark.suite.tasks import APPLE_REPOSITORIES
from mobileclip_deploy.network.model.licences import USES, Answer, Licence, Terms, all_terms
from mobileclip_deploy.network.model.variants import MCiTower, Variant, variant_cards

__all__ = ["OPERATIONS", "counted", "licence_rows", "model_rows", "variant_rows"]

OPERATIONS = ROOT / "benchmarks" / "results" / "card_operations.json"
HEAD = ("weights", "licence", *USES, "said of these weights in", "asks", "in `LICENSES/`")


def licence_rows() -> list[str]:
    """The table: one row per licence and what it is said of, the same for the same cards."""
    groups: dict[tuple[str | None, tuple[str, ...]], list[Variant]] = {}
    for card in variant_cards():
        groups.setdefault((card.licence.terms, card.licence.earlier), []).append(card)
    rows = [_row(cards) for cards in groups.values()]
    named = {name for terms, earlier in groups for name in (terms, *earlier)}
    rows += [_uncarded(one) for name, one in all_terms().items() if one.of and name not in named]
    before = {name for _, earlier in groups for name in earlier}
    rows += [_earlier(name) for name in sorted(before, reverse=True)]
    return [_line(HEAD), _line(["---"] * len(HEAD)), *rows]


def _row(cards: Sequence[Variant]) -> str:
    """Cards of one text; all of them were said to come under it, or none."""
    text = cards[0].licence.text
    assert text is not None
    assert len({card.licence.applies is None for card in cards}) == 1
    uses = [_answer(cards[0].licence.answer(use)) for use in USES]
    said = dict.fromkeys(_said(card.licence) for card in cards)
    return _line([_names(cards), _licence(text), *uses, "; ".join(said), *_rest(text)])


def _names(cards: Iterable[Variant]) -> str:
    return ", ".join(f"`{card.name}`" for card in cards)


def _uncarded(text: Terms) -> str:
    return _line(
        [f"{text.of}: no variant here", _licence(text), *(_answer(text.ruling(use)) for use in USES), "", "", ""]
    )


def _earlier(name: str) -> str:
    text = all_terms()[name]
    names = _names(card for card in variant_cards() if name in card.licence.earlier)
    uses = [_answer(text.ruling(use)) for use in USES]
    return _line([f"{names}: copies taken from {text.dated} on", _licence(text), *uses, "", "", ""])


def _licence(text: Terms) -> str:
    when = f"text of {text.dated}" if text.dated else "text not read"
    return f"{text.label}: [{when}]({text.source})"


def _answer(found: Answer) -> str:
    where = f" ([{found.dated or 'source'}]({found.source}))" if found.source else ""
    return f"**{found.answer}**: {found.words}{where}"


def _said(licence: Licence) -> str:
    if licence.applies is None:
        return "nothing that was read"
    source = licence.applies.source
    read = f"read {licence.applies.read}"  # a file of this repository, which is no page of the site, the words name
    return f"{licence.applies.words} ({f'[{read}]({source})' if source.startswith('https:') else read})"


def _rest(text: Terms) -> list[str]:
    asks = "; ".join(text.asks) + (f"; the sentence: {text.sentence}" if text.sentence else "")
    return [asks, f"`{text.text}`" if text.text else "what you give with `--licence-text`"]


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


MODEL_HEAD = (
    "variant",
    "parameters, M",
    "MB at fp16 / w8",
    "multiply-adds, G",
    "ImageNet top-1, %",
    "COCO, text to image, recall@1, %",
    "languages",
    "licence",
    "in products",
)


def model_rows() -> list[str]:
    """One row per card, those that products may use first, then by top-1."""
    told = json.loads(OPERATIONS.read_text(encoding="utf-8"))
    cards = sorted(variant_cards(), key=_order)
    align = ["---", "---:", "---:", "---:", "---", "---", "---", "---", "---"]
    rows = [_line(MODEL_HEAD), _line(align), *(_model_row(card, told[card.name]) for card in cards)]
    old, new = APPLE_REPOSITORIES
    return [*rows, "", f"Newer public files name `{old}` `{new}`; it is not known if the old name redirects."]


def _order(card: Variant) -> tuple[bool, float, str]:
    top1 = card.published.imagenet_top1 if card.published is not None else None
    return (card.licence.answer("product").answer != "yes", -(top1 or 0), card.name)


def _model_row(card: Variant, counts: Mapping[str, Sequence[int]]) -> str:
    parameters = sum(counts["parameters"])
    published = card.published
    top1 = recall = ""
    if published is not None:
        top1 = _figure(published.imagenet_top1, published.source)
        recall = _figure(published.coco_text_to_image_recall1, published.retrieval_source)
    return _line(
        [
            f"`{card.name}`",
            " + ".join(f"{number / 1e6:.1f}" for number in counts["parameters"]),
            f"{2 * parameters / 1e6:.0f} / {parameters / 1e6:.0f}",
            " + ".join(map(_giga, counts["multiply_adds"])),
            top1,
            recall,
            _languages(card),
            card.licence.label,
            card.licence.answer("product").answer,
        ]
    )


def _languages(card: Variant) -> str:
    """Languages of texts. That English alone was trained on needs no source: nobody said more."""
    if card.languages == "English" or card.published is None:
        return card.languages
    address = next(word for word in card.published.source.split() if word.startswith("https://"))
    return f"[{card.languages}]({address})"


def variant_rows() -> list[str]:
    """Returns one row per card: its towers and its output."""
    heads = ("variant", "image tower, pixels", "text tower", "output of an image")
    return [_line(heads), _line(["---"] * len(heads)), *map(_variant_row, variant_cards())]


def _variant_row(card: Variant) -> str:
    image, text = card.image, card.text
    kind = "MCi" if isinstance(image, MCiTower) else f"ViT, patches of {image.patch}"
    kind += ", QuickGELU" if card.activation == "QuickGELU" else ""
    layers = f"{text.depth} x {text.width}{', causal' if text.causal else ''}"
    return _line([f"`{card.name}`", f"{kind}, {card.preprocess.size}", layers, f"{card.embed_dim}"])


def _giga(number: int) -> str:
    return f"{number / 1e9:.0f}" if number >= 1e10 else f"{number / 1e9:.2g}"


def _figure(value: float | None, source: str | None) -> str:
    if value is None or source is None:
        return ""
    address = next(word for word in reversed(source.split()) if word.startswith("https://"))
    return f"[{value:.1f}]({address})"


def counted(card: Variant) -> dict[str, list[int]]:
    """Parameters and multiply-adds of each folded tower, for one picture and one text of full length."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mobileclip_deploy.network.folding import fold_structure
    from mobileclip_deploy.network.model.architecture import MobileCLIP

    with torch.device("meta"):
        model = fold_structure(MobileCLIP(card).to("meta").eval()).requires_grad_(False)
        inputs = {"image": torch.empty(1, *card.image_input_shape)}
        inputs["text"] = torch.zeros(1, card.context_length, dtype=torch.long)
    parameters, operations = [], []
    for name, example in inputs.items():
        tower = getattr(model, name)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            tower(example)
        parameters.append(sum(weight.numel() for weight in tower.parameters()))
        operations.append(counter.get_total_flops() // 2)
    return {"parameters": parameters, "multiply_adds": operations}


if __name__ == "__main__":
    if "--operations" in sys.argv[1:]:
        counts = {card.name: counted(card) for card in (*variant_cards(), siglip_variant())}
        OPERATIONS.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
    Figures("card_tables", "licences.md").show("\n".join(licence_rows()))
    Figures("card_tables", "choose_model.md").show("\n".join(model_rows()))
    Figures("card_tables", "variants.md").show("\n".join(variant_rows()))
