"""Builds the parallel texts that nano's text tower of nine languages learns from, and what it is measured on.

    python models/nano/languages/build_texts.py --work BUILD_FOLDER [--parallel FOLDER]
        [--evaluation models/nano/evaluation]

needs `npm` on the path. The parallel texts are not committed; the evaluation's captions and classes are.
"""

import argparse
import csv
import hashlib
import json
import sys
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from build_data import HELD_OUT, NAMES, Concept, class_name, made_captions, read_concepts
from styles import fetch, plain, read_json

TEMPLATES = {
    "de": "ein Emoji von {}",
    "fr": "un emoji de {}",
    "es": "un emoji de {}",
    "pt": "um emoji de {}",
    "ru": "эмодзи {}",
    "uk": "емодзі {}",
    "ja": "{}の絵文字",
    "zh": "{}的表情符号",
    "ko": "{} 이모지",
}
"""The languages, and the prompt template of the zero-shot task in each."""
ENGLISH_TEMPLATE = "an emoji of {}"
KEYWORDS = 4
NAME_WEIGHT, CLASS_WEIGHT = "6", "16"
"""How often a name and a class are drawn beside a keyword. Each is drawn in the template as often as alone."""
HELD_OUT_EVERY, HELD_OUT_FIRST = 20, 7
"""Every 20th emoji is held out: none of its texts in another language than English is learned."""
WORDINGS_OF = 4
"""One keyword of one emoji in four is held out in each language that has one which names no other emoji."""


@dataclass(frozen=True)
class Words:
    """What the emoji are called in one language: by hexcode their names and keywords; names of the classes."""

    labels: dict[str, str]
    tags: dict[str, tuple[str, ...]]
    classes: dict[str, str]


def read_words(names: tarfile.TarFile, language: str) -> Words:
    """Names, keywords and classes of a language. Classes are told apart by their place among Unicode's subgroups."""
    rows = {plain(row["hexcode"]): row for row in read_json(names, f"{language}/data.json")}
    own, english = (read_json(names, f"{one}/messages.json")["subgroups"] for one in (language, "en"))
    told = {row["order"]: row["message"] for row in own}
    counts = Counter(told.values())
    # Two of Korean's classes have the same name: the English one tells them apart.
    told |= {
        row["order"]: f"{told[row['order']]} ({row['message']})" for row in english if counts[told[row["order"]]] > 1
    }
    return Words(
        labels={code: row["label"] for code, row in rows.items()},
        tags={code: tuple(dict.fromkeys(row.get("tags", ()))) for code, row in rows.items()},
        classes={row["message"].replace("-", " "): told[row["order"]] for row in english},
    )


def held_out(number: int) -> bool:
    """Whether the emoji of this place among all is held out."""
    return number % HELD_OUT_EVERY == HELD_OUT_FIRST


def held_out_wordings(concepts: list[Concept], words: Words) -> dict[str, str]:
    """The keyword of some emoji that is not learned: one that names no other emoji, and is no emoji's name."""
    names = {label.lower() for label in words.labels.values()}
    counts = Counter(tag.lower() for concept in concepts for tag in words.tags[concept.hexcode])
    found = {}
    for number, concept in enumerate(concepts):
        if held_out(number) or hashlib.sha256(concept.hexcode.encode()).digest()[0] % WORDINGS_OF:
            continue
        tags = [tag for tag in words.tags[concept.hexcode] if counts[tag.lower()] == 1 and tag.lower() not in names]
        if tags:
            found[concept.hexcode] = max(tags, key=len)
    return found


def keywords(concept: Concept, words: Words, left_out: str | None) -> list[str]:
    """The first keywords of an emoji, and three of them together; without one that is held out."""
    tags = [tag for tag in words.tags[concept.hexcode] if tag != left_out]
    return [*tags[:KEYWORDS], ", ".join(tags[:3])] if len(tags) > 1 else tags


def learned_rows(
    concepts: list[Concept], words: dict[str, Words], wordings: dict[str, dict[str, str]]
) -> list[dict[str, str]]:
    """The rows of parallel.tsv: names, names in the template, keywords beside the English name, classes, and English
    alone."""
    rows: list[dict[str, str]] = []

    def add(english: str, others: dict[str, str], weight: str) -> None:
        rows.append({"en": english, "weight": weight} | others)
        templated = {language: TEMPLATES[language].replace("{}", text) for language, text in others.items()}
        rows.append({"en": ENGLISH_TEMPLATE.replace("{}", english), "weight": weight} | templated)

    for number, concept in enumerate(concepts):
        code = concept.hexcode
        rows += [{"en": text} for text in made_captions(concept)]
        if held_out(number):
            rows += [{"en": concept.label}]
            continue
        add(concept.label, {language: one.labels[code] for language, one in words.items()}, NAME_WEIGHT)
        lists = {language: keywords(concept, one, wordings[language].get(code)) for language, one in words.items()}
        for place in range(KEYWORDS + 1):
            others = {language: texts[place] for language, texts in lists.items() if place < len(texts)}
            rows += [{"en": concept.label} | others] if others else []
    for name in sorted({class_name(concept) for concept in concepts}):
        add(name, {language: one.classes[name] for language, one in words.items()}, CLASS_WEIGHT)
    return rows


def without_held_out(rows: list[dict[str, str]], held: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows without texts that are held out: a keyword of one emoji may be the name of another."""
    taken = {(language, text.lower()) for row in held for language, text in row.items() if language in TEMPLATES}
    return [{key: text for key, text in row.items() if (key, text.lower()) not in taken} for row in rows]


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    """A table with one column per language; nothing where a row has no text."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["weight", "en", *TEMPLATES], delimiter="\t", lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)


def build_parallel(folder: Path, concepts: list[Concept], words: dict[str, Words]) -> None:
    """Writes parallel.tsv (learned), held_out.tsv (names of held-out emoji) and wordings.tsv (held-out keywords)."""
    folder.mkdir(parents=True, exist_ok=True)
    wordings = {language: held_out_wordings(concepts, one) for language, one in words.items()}
    held = [
        {"en": concept.label} | {language: one.labels[concept.hexcode] for language, one in words.items()}
        for number, concept in enumerate(concepts)
        if held_out(number)
    ]
    asked = [
        {"en": concept.label}
        | {one: found[concept.hexcode] for one, found in wordings.items() if concept.hexcode in found}
        for concept in concepts
    ]
    asked = [row for row in asked if len(row) > 1]
    learned = without_held_out(learned_rows(concepts, words, wordings), [*held, *asked])
    for name, rows in (("parallel", learned), ("held_out", held), ("wordings", asked)):
        write_table(folder / f"{name}.tsv", rows)
        texts = sum(key in TEMPLATES for row in rows for key in row)
        print(f"{name}.tsv: {len(rows)} rows, {texts} texts in other languages")


def build_evaluation(folder: Path, concepts: list[Concept], words: dict[str, Words]) -> None:
    """Writes the captions and classes of each language, line by line those of pairs.jsonl and classes.txt, and names
    them in dataset.json."""
    described = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    classes = (folder / "classes.txt").read_text(encoding="utf-8").split("\n")[:-1]
    (folder / "languages").mkdir(exist_ok=True)
    described["languages"] = {}
    for language, one in words.items():
        files = {"captions": f"languages/{language}.txt", "classes": f"languages/{language}_classes.txt"}
        captions = [one.labels[concept.hexcode] for concept in concepts]
        for name, lines in (("captions", captions), ("classes", [one.classes[name] for name in classes])):
            (folder / files[name]).write_text("\n".join(lines) + "\n", encoding="utf-8")
        described["languages"][language] = files | {"template": TEMPLATES[language]}
        print(f"{language}: {len(set(captions))} different captions")
    (folder / "dataset.json").write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the packages' tarballs")
    parser.add_argument("--parallel", type=Path, help="write the parallel texts here")
    parser.add_argument("--evaluation", type=Path, help="add the languages to the evaluation set here")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    names, drawn = fetch(NAMES, arguments.work), fetch(HELD_OUT, arguments.work)
    concepts = read_concepts(names, drawn)
    words = {language: read_words(names, language) for language in TEMPLATES}
    if arguments.parallel:
        build_parallel(arguments.parallel, concepts, words)
    if arguments.evaluation:
        build_evaluation(arguments.evaluation, concepts, words)


if __name__ == "__main__":
    main()
