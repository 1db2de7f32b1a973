"""Jobs and rounds made up from their published JSON Schemas, and faults in them, the same every time."""

import base64
import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
LARGEST = 2**53 - 1
PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,119}$": ["a", "Z9._+-", "0", "x" * 120],
    r"^[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*$": ["a", "_b/c.d", "models/x+y-z/0", "A/_"],
    r"^[0-9a-f]{64}$": ["0" * 64, "0123456789abcdef" * 4],
}
MISMATCHES = ["", "-a", "a b", "ä", "a/", "../a", "a\n", "0" * 63, "x" * 121, "A" * 64]
TEXTS = ["", "plain", "ä€𝒥\u2028", 'quo"te\\', "tab\tline\n", "\u0001", "null", "/slash/"]
NUMBERS = [0.0, 1.0, -1.5, 0.1, 3e-07, 1e300, -2.5e-12, 1795000000.125, 123456789.0]

Value = Any


class Generator:
    """Documents of one kind, job or round. What a schema cannot say (an order that is whole) is put right after."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind = kind
        file = "benchmark-job.json" if kind == "job" else "benchmark-run.json"
        self.schema = json.loads((SCHEMAS / file).read_text(encoding="utf-8"))
        self._random = random.Random(seed)

    def document(self) -> Value:
        if self.kind == "round":
            return self._value(self.resolve("RoundResult"))
        job = self._value(self.schema)
        self._agree(job)
        return job

    def resolve(self, name: str) -> Value:
        return self.schema["$defs"][name]

    def _agree(self, job: Value) -> None:
        job["protocol"]["rounds"] = self._random.randint(1, 3)
        for number, cell in enumerate(job["cells"]):
            cell["id"] = f"cell-{number}"
            if (cell.get("golden") is None) != (cell.get("gate") is None):
                cell["golden"] = cell["gate"] = None
        order = [{"cell": c["id"], "round": r} for c in job["cells"] for r in range(job["protocol"]["rounds"])]
        self._random.shuffle(order)
        job["order"] = order

    def _value(self, schema: Value) -> Value:
        if "$ref" in schema:
            return self._value(self.resolve(schema["$ref"].rpartition("/")[2]))
        if "anyOf" in schema:
            return self._value(self._random.choice(schema["anyOf"]))
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        return getattr(self, f"_{schema['type']}")(schema)

    def _object(self, schema: Value) -> Value:
        if "properties" not in schema:
            values = schema["additionalProperties"]
            return {text: self._value(values) for text in self._random.sample(TEXTS, self._random.randint(0, 3))}
        required = schema.get("required", ())
        present = [name for name in schema["properties"] if name in required or self._random.random() < 0.7]
        self._random.shuffle(present)
        return {name: self._value(schema["properties"][name]) for name in present}

    def _array(self, schema: Value) -> Value:
        return [self._value(schema["items"]) for _ in range(self._random.randint(schema.get("minItems", 0), 3))]

    def _string(self, schema: Value) -> Value:
        if schema.get("format") == "base64":
            return base64.b64encode(self._random.randbytes(self._random.randint(0, 40))).decode()
        return self._random.choice(PATTERNS[schema["pattern"]] if "pattern" in schema else TEXTS)

    def _integer(self, schema: Value) -> Value:
        low, high = schema["minimum"], min(schema.get("maximum", LARGEST), schema["exclusiveMaximum"] - 1)
        return self._random.choice([low, high, self._random.randint(low, min(high, 10**12))])

    def _number(self, schema: Value) -> Value:
        fitting = [number for number in NUMBERS if schema.get("minimum", number) <= number]
        most, below = schema.get("maximum", float("inf")), schema.get("exclusiveMaximum", float("inf"))
        return self._random.choice([number for number in fitting if number <= most and number < below])

    def _boolean(self, schema: Value) -> Value:
        return self._random.random() < 0.5

    def _null(self, schema: Value) -> Value:
        return None


Fault = tuple[str, str]
"""What is wrong, and the document as JSON text."""


def faults(generator: Generator, document: Value) -> Iterator[Fault]:
    """For every object of a document, fields left out, unknown, null, of another type or out of range, one at a time.

    Not all of them are faults: an optional field may be left out. Both sides have to agree on which are.
    """
    for path in _objects(document):
        target = _at(document, path)
        yield _changed(document, (*path, "unknown_field"), 1)
        for name, value in list(target.items()):
            yield _changed(document, (*path, name), None, remove=True)
            for other in _others(value):
                yield _changed(document, (*path, name), other)


def _others(value: Value) -> list[Value]:
    if isinstance(value, bool):
        return [None, 1, "true", []]
    if isinstance(value, int):
        return [None, -1, 0, 1025, LARGEST, LARGEST + 1, 0.5, "1", True, []]
    if isinstance(value, float):
        return [None, -1, 7, 0.5, "1", False, {}]
    if isinstance(value, str):
        return [None, 1, True, [], *MISMATCHES]
    if isinstance(value, list):
        return [None, {}, [None], ["a"], [-1], [1.5], "a", []]
    if isinstance(value, dict):
        return [None, [], 1, {}]
    return [1, -1, 0.5, "a", True, [], {}]


def _objects(value: Value, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        yield path
        for name, inner in value.items():
            yield from _objects(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _objects(inner, (*path, index))


def _at(document: Value, path: tuple[Any, ...]) -> Value:
    for step in path:
        document = document[step]
    return document


def _changed(document: Value, path: tuple[Any, ...], value: Value, remove: bool = False) -> Fault:
    changed = copy.deepcopy(document)
    target = _at(changed, path[:-1])
    if remove:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    name = ".".join(map(str, path))
    return f"{name} removed" if remove else f"{name} = {value!r}", json.dumps(changed)
