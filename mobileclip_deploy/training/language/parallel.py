"""Parallel sentences: reading of tables, and filters of texts that teach nothing."""

from __future__ import annotations

import csv
import json
import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from mobileclip_deploy.base.files import content_sha256
from mobileclip_deploy.errors import REASON, InvalidInput, UsageError, reraising
from mobileclip_deploy.evaluation.tables import read_parquet
from mobileclip_deploy.network.model.tokenizer import cleaned

ENGLISH, WEIGHT = "en", "weight"
TABLES = (".tsv", ".jsonl", ".parquet")
LONGEST_LINE = 1 << 20

SCRIPTS: dict[str, list[str]] = json.loads(Path(__file__).with_name("scripts.json").read_text(encoding="utf-8"))
"""First words of Unicode's names of a language's letters. A language that is not listed is accepted in any script."""


@dataclass(frozen=True)
class Filters:
    """Filters of texts. `longest`: most characters. `script`: smallest share of letters in the language's own script,
    for listed languages."""

    longest: int = 300
    script: float = 0.5


@dataclass(frozen=True)
class Parallel:
    """English sentences, each once, and their pairs. `texts[i]` is in `languages[i]` and a translation of sentence
    `english_of[i]`. `weights[i]`: frequency of the pair relative to others of its language. `english_weights`:
    frequency of each English sentence, to keep English. `left_out`: number of texts left out, by reason."""

    english: tuple[str, ...]
    english_weights: tuple[float, ...]
    texts: tuple[str, ...]
    languages: tuple[str, ...]
    english_of: tuple[int, ...]
    weights: tuple[float, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    def counts(self) -> dict[str, int]:
        """Returns the number of pairs by language."""
        return dict(Counter(self.languages))

    def some(self, rows: Sequence[int]) -> Parallel:
        """Returns only these pairs, with their English sentences."""
        new_index = {old: new for new, old in enumerate(dict.fromkeys(self.english_of[row] for row in rows))}
        return Parallel(
            tuple(self.english[old] for old in new_index),
            tuple(self.english_weights[old] for old in new_index),
            tuple(self.texts[row] for row in rows),
            tuple(self.languages[row] for row in rows),
            tuple(new_index[self.english_of[row]] for row in rows),
            tuple(self.weights[row] for row in rows),
            self.left_out,
        )

    @property
    def sha256(self) -> str:
        """Hash that identifies these pairs."""
        parts = (self.english, self.english_weights, self.texts, self.languages, self.english_of, self.weights)
        return content_sha256(json.dumps(parts, ensure_ascii=False).encode())


def pair_sha256(language: str, text: str) -> str:
    """Returns a hash of a text as the tokenizer sees it."""
    return content_sha256(f"{language}\t{cleaned(text)}".encode())


def read_parallel(files: Sequence[Path], languages: Sequence[str], filters: Filters | None = None) -> Parallel:
    """Reads tables with one column per language: `en`, and each of `languages`. A row may lack some of them. A column
    `weight` gives the relative frequency of a row; 1 when left out.

    A table is a .tsv whose first line names the columns, a .jsonl of objects, or a .parquet. The same pair counts once.

    Raises:
        InvalidInput: a file cannot be read, is not UTF-8, lacks the column `en` or any other; or a language has no pair
            left.
        UsageError: no language, the same twice, or English among them.
        DependencyMissing: a .parquet without pyarrow.
    """
    if not languages or len(set(languages)) < len(languages) or ENGLISH in languages:
        raise UsageError("`languages` are codes of languages besides English, each once, such as 'de,fr'")
    filters = filters or Filters()
    left_out: Counter[str] = Counter()
    english: dict[str, int] = {}
    english_weights: list[float] = []
    pairs: dict[tuple[str, str, int], float] = {}
    columns: set[str] = set()
    for row in (row for file in files for row in _rows(file, columns)):
        sentence = _kept(row.get(ENGLISH), ENGLISH, filters, left_out)
        if sentence is None:
            continue
        weight = _weight(row.get(WEIGHT))
        index = english.setdefault(sentence, len(english))
        if index == len(english_weights):
            english_weights.append(weight)
        english_weights[index] = max(english_weights[index], weight)
        for language in languages:
            if not (value := row.get(language)):
                continue
            text = _kept(value, language, filters, left_out)
            if text is None:
                continue
            if (language, text, index) in pairs:
                left_out["the same pair again"] += 1
            pairs.setdefault((language, text, index), weight)
    parallel = Parallel(
        tuple(english),
        tuple(english_weights),
        tuple(text for _, text, _ in pairs),
        tuple(language for language, _, _ in pairs),
        tuple(index for _, _, index in pairs),
        tuple(pairs.values()),
        dict(left_out),
    )
    _check_found(parallel, files, languages, columns)
    return parallel


def check_columns(parallel: Parallel, tokens_of: Callable[[Sequence[str]], Sequence[int]]) -> None:
    """Refuses tables whose English column is not English, for example if two columns were swapped. The teacher's
    vocabulary, learned on English, needs fewer tokens per character for English than for any other language.

    Args:
        tokens_of: returns the number of the teacher's tokens of each text.

    Raises:
        InvalidInput: a language takes fewer than the English of its rows.
    """
    for language in parallel.counts():
        rows = [row for row, name in enumerate(parallel.languages) if name == language][:SAMPLED]
        sides = [parallel.english[parallel.english_of[row]] for row in rows], [parallel.texts[row] for row in rows]
        base, rate = (sum(tokens_of(side)) / max(sum(map(len, side)), 1) for side in sides)
        if base > rate and len(rows) >= FEWEST_SAMPLED:
            raise InvalidInput(
                f"the column {ENGLISH} takes {base:.2f} of the teacher's tokens per character, the column {language} "
                f"{rate:.2f}: English always needs the fewest; the columns seem to be swapped"
            )


SAMPLED, FEWEST_SAMPLED = 2000, 20


def own_script(text: str, language: str) -> float:
    """Returns the share of a text's letters that are of its language's script. 1 without letters, or if the language's
    script is not listed."""
    letters = [char for char in text if char.isalpha()]
    scripts = SCRIPTS.get(language)
    if scripts is None or not letters:
        return 1.0
    return sum(_script(char) in scripts for char in letters) / len(letters)


@cache
def _script(char: str) -> str:
    return unicodedata.name(char, "?").split(" ")[0]


def _weight(given: object) -> float:
    """Returns a row's weight; 1 if it has none.

    Raises:
        InvalidInput: not a number above 0.
    """
    if given in (None, ""):
        return 1.0
    try:
        weight = float(str(given))
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise InvalidInput(f"the column {WEIGHT} holds {str(given)[:40]!r} instead of a number above 0")
    return weight


def _kept(given: object, language: str, filters: Filters, left_out: Counter[str]) -> str | None:
    """Returns a text with its blanks normalised. None if it is left out, which is counted."""
    if given is not None and not isinstance(given, str):
        raise InvalidInput(f"the column {language} holds {type(given).__name__} instead of texts")
    text = " ".join((given or "").split())
    if not text:
        left_out["an empty side"] += 1
    elif len(text) > filters.longest:
        left_out[f"more than {filters.longest} characters"] += 1
    elif own_script(text, language) < filters.script:
        left_out[f"{language} in another script"] += 1
    else:
        return text
    return None


def _check_found(found: Parallel, files: Sequence[Path], languages: Sequence[str], known: set[str]) -> None:
    counts = found.counts()
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items())
    for language in languages:
        if counts.get(language):
            continue
        named = ", ".join(map(str, files))
        if language not in known:
            columns = ", ".join(sorted(known | {ENGLISH}))
            raise InvalidInput(f"{named}: no column {language}; the columns are {columns}")
        raise InvalidInput(f"{named}: no pair of {language} is left" + (f" (left out: {reasons})" if reasons else ""))


def _rows(file: Path, known: set[str]) -> Iterator[Mapping[str, object]]:
    """Yields the rows of a table; the names of its columns are added to `known`."""
    if file.suffix.lower() not in TABLES:
        raise InvalidInput(
            f"{file}: a file of parallel sentences ends with {', '.join(TABLES)}, with one column per language"
        )
    if not file.is_file():
        raise InvalidInput(f"no file at {file}")
    read = {".tsv": _tsv, ".jsonl": _json_lines, ".parquet": _parquet}[file.suffix.lower()]
    coded = f"{file} is not UTF-8 ({REASON}); save it again as UTF-8"
    with reraising(f"{file} cannot be read", OSError, csv.Error), reraising(coded, UnicodeDecodeError):
        yield from read(file, known)


def _columns(file: Path, names: Iterable[str], known: set[str]) -> None:
    listed = list(names)
    if len(listed) < 2 or ENGLISH not in listed:
        raise InvalidInput(
            f"{file}: its columns are {', '.join(repr(name[:40]) for name in listed[:6])}; the first line names one "
            f"column per language, {ENGLISH} and at least one other"
        )
    if len(set(listed)) < len(listed):
        raise InvalidInput(f"{file}: two columns have the same name")
    known.update(set(listed) - {ENGLISH, WEIGHT})


def _tsv(file: Path, known: set[str]) -> Iterator[Mapping[str, object]]:
    with file.open(encoding="utf-8-sig", newline="\n") as stream:
        names = [name.strip() for name in stream.readline(LONGEST_LINE).rstrip("\r\n").split("\t")]
        _columns(file, names, known)
        for number, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE), ""), start=2):
            if len(line) == LONGEST_LINE:
                raise InvalidInput(f"{file}, line {number}: more than {LONGEST_LINE:,} characters")
            values = line.rstrip("\r\n").split("\t")
            if len(values) > len(names) or (len(values) < 2 and values != [""]):
                raise InvalidInput(f"{file}, line {number}: {len(values)} columns instead of {len(names)}")
            yield dict(zip(names, values, strict=False))


def _json_lines(file: Path, known: set[str]) -> Iterator[Mapping[str, object]]:
    with file.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidInput(f"{file}, line {number}: invalid JSON") from error
            if not isinstance(row, dict):
                raise InvalidInput(f"{file}, line {number}: not an object with one field per language")
            if number == 1:
                _columns(file, row, known)
            known.update(set(row) - {ENGLISH, WEIGHT})
            yield row


def _parquet(file: Path, known: set[str]) -> Iterator[Mapping[str, object]]:
    def chosen(file: Path, names: list[str]) -> list[str]:
        _columns(file, names, known)
        return names

    return read_parquet(file, chosen)
