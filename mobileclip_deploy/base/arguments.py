"""Checks of public functions' arguments against their annotations: a wrong argument is refused in one sentence.

An annotation is the only description of a public function's argument; `checked` is the only place that enforces it.
"""

import functools
import inspect
import math
import numbers
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from mobileclip_deploy.errors import UsageError, from_os_error, missing_extra, suggestion

StoreName = Literal["int8", "float16", "float32", "bits", "bits-only"]
"""Names of the storage types of an index (docs/index_format.md), in the order of their numbers in its header."""
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True)
class Bounds:
    """Bounds of a number: from `low` to `high`, both included."""

    low: float
    high: float = math.inf

    def hold(self, number: float) -> bool:
        """Returns whether a number is within the bounds; a NaN is not."""
        return self.low <= number <= self.high

    def __str__(self) -> str:
        return f" from {self.low:,} {'up' if self.high == math.inf else f'to {self.high:,}'}"


Count = Annotated[int, Bounds(1)]
"""Number of things, at least one."""
Seed = Annotated[int, Bounds(0, 2**53 - 1)]
"""Seed of random numbers; every language's JSON reader keeps it exactly."""

PLAIN = {str: "a text", bool: "True or False", int: "a whole number", float: "a number", type(None): "None"}
# Types that have no literal, and the functions that make them.
MADE = {
    "Bundle": "a bundle from `export`",
    "CheckedRunner": "a runner",
    "Image": "a PIL image",
    "MobileCLIP": "a model from `load_model`",
    "ndarray": "an array",
}


class _Wrong(Exception):
    """Raised for a value of another type than the annotation's; `item` is its index in a list."""

    def __init__(self, value: object, item: int | None = None) -> None:
        super().__init__(value)
        self.value = value
        self.item = item


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Wraps a function or method so that it refuses arguments that do not match its annotations.

    Numbers and iterables of other packages are converted to Python's numbers and lists.

    Raises:
        UsageError: an argument is wrong, missing, or unknown.
        RuntimeFailed: the system refused an operation; the cause has the details.
        DependencyMissing: a package is not installed that this call needs.
    """
    signature = _signature(function)
    parameters = [
        word for word, parameter in signature.parameters.items() if parameter.annotation is not inspect.Parameter.empty
    ]
    name = function.__qualname__.removesuffix(".__init__")
    hints = functools.cache(lambda: typing.get_type_hints(function, include_extras=True) | _words_of(function))

    @functools.wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        unknown = next((word for word in keywords if word not in parameters), None)
        if unknown is not None:
            raise UsageError(
                f"{name} takes no `{unknown}`{suggestion(unknown, parameters)}; known: {', '.join(parameters)}"
            )
        try:
            bound = signature.bind(*arguments, **keywords)
        except TypeError as error:
            raise UsageError(f"{name}: {error}; it takes {', '.join(parameters) or 'none'}") from None
        for word in filter(bound.arguments.__contains__, parameters):
            kind = hints()[word]
            try:
                bound.arguments[word] = _taken(bound.arguments[word], kind)
            except _Wrong as wrong:
                item = "" if wrong.item is None else f" (item {wrong.item})"
                raise UsageError(f"`{word}` takes {described(kind)}, not {_shown(wrong.value)}{item}") from None
        try:
            return function(*bound.args, **bound.kwargs)
        except OSError as error:
            raise from_os_error(error) from error
        except ModuleNotFoundError as error:
            raise missing_extra(error) or error from error

    call.__signature__ = signature  # type: ignore[attr-defined]
    call.__annotations__ = dict(call.__annotations__) | _words_of(function)
    return call


def _words_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Returns the keywords of `**words: Unpack[...]`, by name, with their annotations; empty if a function has none."""
    last = [*inspect.signature(function).parameters.values()][-1:]
    if not last or last[0].kind is not inspect.Parameter.VAR_KEYWORD:
        return {}
    (words,) = typing.get_args(typing.get_type_hints(function)[last[0].name])
    return typing.get_type_hints(words, include_extras=True)


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """Returns a function's own signature, with `**words: Unpack[...]` replaced by its keywords."""
    signature, words = inspect.signature(function), _words_of(function)
    if not words:
        return signature
    positional = [*signature.parameters.values()][:-1]
    named = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=..., annotation=words[name]) for name in words
    ]
    return signature.replace(parameters=[*positional, *named])


def checked_fields(settings: type[T]) -> type[T]:
    """Wraps a dataclass of user settings so that its fields are checked as arguments."""
    settings.__init__ = checked(settings.__init__)  # type: ignore[method-assign]
    return settings


def _taken(value: Any, kind: Any) -> Any:
    """Returns a value as the annotation requires it, or raises `_Wrong`."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        checked_value = _taken(value, parts[0])
        return checked_value if parts[1].hold(checked_value) else _wrong(value)
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, parts)
    if origin is Literal:
        return value if value in parts else _wrong(value)
    if origin in (Sequence, list, tuple):
        return _listed(value, parts[0])
    if kind in (int, float):
        return _number(value, kind)
    if origin is PathLike:
        return _path(value)
    if kind is Any or isinstance(value, origin or kind):
        return value
    return _wrong(value)


def _one_of(value: Any, kinds: Sequence[Any]) -> Any:
    if isinstance(value, str) and any(typing.get_origin(kind) is PathLike for kind in kinds):
        return _path(value)
    inside = None
    for kind in kinds:
        try:
            return _taken(value, kind)
        except _Wrong as wrong:
            inside = wrong if wrong.item is not None else inside
    raise inside or _Wrong(value)


def _listed(value: Any, kind: Any) -> Any:
    """Converts generators and arrays to lists: a function may iterate a list more than once."""
    if isinstance(value, str | bytes | PathLike | Mapping) or not isinstance(value, Iterable):
        return _wrong(value)
    items = []
    for index, item in enumerate(value):
        try:
            items.append(_taken(item, kind))
        except _Wrong as wrong:
            raise _Wrong(wrong.value, index) from None
    return value if isinstance(value, Sequence) else items


def _number(value: Any, kind: type) -> Any:
    # True is an int, but never meant as a number. numpy's numbers are valid, but JSON does not support them.
    abstract: type[Any] = numbers.Integral if kind is int else numbers.Real
    if isinstance(value, bool) or not isinstance(value, abstract) or not math.isfinite(value):
        return _wrong(value)
    return value if isinstance(value, int) else kind(value)


def _path(value: Any) -> Any:
    text = fspath(value) if isinstance(value, str | PathLike) else None
    return value if isinstance(text, str) and text and "\0" not in text else _wrong(value)


def _wrong(value: object) -> typing.NoReturn:
    raise _Wrong(value)


def described(kind: Any) -> str:
    """Describes an annotation in words."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return f"{described(parts[0])}{parts[1]}"
    if origin in (typing.Union, types.UnionType):
        paths = any(typing.get_origin(part) is PathLike for part in parts)
        several = [part for part in parts if typing.get_origin(part) in (Sequence, Iterable, list, tuple)]
        single = [part for part in parts if part not in several and not (paths and part is str)]
        texts = [described(part) for part in single if part is not type(None)]
        texts += ["a list of them"] if several and texts else [described(part) for part in several[:1]]
        return _or([*texts, *("None" for part in single if part is type(None))])
    if origin is Literal:
        return _or([repr(part) for part in parts])
    if origin in (Sequence, Iterable, list, tuple):
        return f"a list, each {described(parts[0])}"
    if origin is PathLike:
        return "a path"
    if origin is Callable:
        return "a function"
    if origin is Mapping:
        return "a dict"
    type_name = (origin or kind).__name__
    return PLAIN.get(kind) or MADE.get(type_name) or f"a {type_name}"


def _or(said: Sequence[str]) -> str:
    return " or ".join((*([", ".join(said[:-1])] if said[1:] else []), said[-1]))


def _shown(value: object) -> str:
    """Describes a value in one short line; larger values by their type."""
    if value is None or isinstance(value, str | bytes | bool | numbers.Number | PathLike):
        return " ".join(reprlib.repr(value).split())
    return f"a {type(value).__name__}"
