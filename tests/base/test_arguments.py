"""Whatever a public function is given wrongly is refused in one sentence, and by what its annotations say."""

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from exports import Exports

import mobileclip_deploy as mcd
from mobileclip_deploy.base.arguments import Bounds, checked
from mobileclip_deploy.errors import MobileClipDeployError, RuntimeFailed, UsageError
from mobileclip_deploy.network.samples import image_paths

FUNCTIONS = [name for name in mcd.__all__ if name[0].islower()]
# What nothing takes, and what a kind of parameter does not take besides.
NOTHING: list[Any] = [object(), 3j, b"bytes", [object()], {1: 2}, ...]
WRONG: dict[Any, list[Any]] = {
    bool: [1, 0.0, "yes", [True]],
    int: [1.5, "1", True, float("nan"), [1, "2"]],
    float: ["x", True, float("nan"), float("inf"), [0.5]],
    str: [3, 0.5, True, ["a", 3]],
    PathLike: ["", "a\0b", 3, 0.5, ["a", 3], ["a", ""], [None]],
    Mapping: [3, "a", [1]],
    Callable: [3, "print"],
    Literal: ["elsewhere", 3],
}


def kinds(annotation: Any) -> set[Any]:
    """What an annotation is made of."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (PathLike, Literal, Mapping) or annotation is typing.get_origin(Callable[[], None]):
        return {origin}
    if origin is typing.get_origin(Callable[[], None]):
        return {Callable}
    return {annotation}.union(*(kinds(part) for part in parts)) if origin is None or parts else {origin or annotation}


def wrong_values(annotation: Any) -> list[Any]:
    """Values that a parameter must not take."""
    found = kinds(annotation)
    several = {typing.get_origin(part) for part in found} & {Sequence, Iterable, list, tuple}
    taken = [kind for kind in WRONG if kind in found]
    values = [value for value in NOTHING if not (Mapping in found and isinstance(value, dict))]
    values += [value for kind in taken[:1] for value in WRONG[kind] if not (str in found and PathLike in taken[:1])]
    if PathLike in found:
        values += WRONG[PathLike]
    if type(None) not in found:
        values.append(None)
    if Iterable in several:  # looked at one by one, by the function: see test_inputs.py
        values = [value for value in values if not isinstance(value, list | dict | bytes)]
    bounds = [part for kind in found for part in typing.get_args(kind) if isinstance(part, Bounds)]
    return values + [bound.low - 1 for bound in bounds]


def placeholder(annotation: Any, model: mcd.MobileCLIP) -> Any:
    """What a required parameter takes, of a place where there is nothing."""
    found = kinds(annotation)
    if PathLike in found or str in found:
        return "nowhere"
    return "image" if Literal in found else model


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_refuses_what_its_annotation_does_not_say(name: str, tmp_path: Path) -> None:
    function, model = getattr(mcd, name), object.__new__(mcd.MobileCLIP)
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    required = [word for word, own in parameters.items() if own.default is inspect.Parameter.empty]
    needed = {word: placeholder(hints[word], model) for word in required}
    for word in parameters:
        values = wrong_values(hints[word])
        assert len(values) >= 3
        for value in values:
            with pytest.raises(UsageError, match=f"^`{word}` takes ") as refused:
                function(**{**needed, word: value})
            assert "\n" not in str(refused.value)
            assert len(str(refused.value)) < 200
    for foreign in ({**needed, "colour": 1}, dict(list(needed.items())[1:]) if needed else {"x": 1}):
        with pytest.raises(UsageError, match=f"^{name}"):
            function(**foreign)
    with pytest.raises(UsageError, match=f"^{name}: too many"):
        function(*range(30))


@pytest.mark.parametrize("settings", [mcd.Gates])
def test_settings_are_arguments_like_any_other(settings: Any) -> None:
    hints = typing.get_type_hints(settings, include_extras=True)
    assert settings() == settings(**vars(settings()))
    for word, annotation in hints.items():
        for value in wrong_values(annotation):
            with pytest.raises(UsageError, match=f"^`{word}` takes "):
                settings(**{word: value})
    with pytest.raises(UsageError, match=rf"^{settings.__qualname__} takes no `stpes`"):
        settings(stpes=3)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"mirror": 2}, "mirror: above 1"),
        ({"ratio": (-1, 2)}, "ratio: two numbers above 0"),
        ({"hue": float("nan")}, "hue: not a finite number"),
        ({"colour": 1}, "colour: not known here"),
    ],
)
def test_an_augmentation_policy_is_refused_in_one_sentence(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        mcd.AugmentationPolicy(**fields)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda here, _: mcd.lint(here, device="a99"), "a99"),
        (lambda here, _: mcd.compare_lint(here, here, device="A99"), "A99"),
        (lambda here, _: mcd.benchmark(here, device="toaster"), "toaster"),
        (lambda here, _: mcd.benchmark(here, protocol="papers"), "did you mean paper"),
        (lambda here, _: mcd.benchmark(here, tower="images"), "unknown tower 'images'"),
        (lambda here, _: mcd.benchmark(here, torch="fold"), "`torch` fold: unknown"),
        (lambda here, _: mcd.benchmark(here, threads=[1, 4096]), "from 1 to 1024"),
        (lambda here, _: mcd.write_job(here, "job", device="host"), "host"),
        (lambda here, _: mcd.write_job(here, "job", tower="images"), "unknown tower 'images'"),
        (lambda _, weights: mcd.convert(weights, "apples", "a.pt"), "did you mean apple"),
        (lambda _, weights: mcd.convert(weights, "apple", "a.pt", "nan0"), "did you mean nano"),
        (lambda _, weights: mcd.load_model("nan0", weights), "did you mean nano"),
        (lambda _, weights: mcd.load_model("nano", weights, image_size=63), "multiples of 32"),
        (lambda here, _: mcd.evaluate(here, dataset="builtin", task="retrieve"), "retrieve"),
        (lambda here, _: mcd.evaluate(here, dataset="builtin", templates="a photo"), "a photo"),
        (lambda here, _: mcd.classify(here, here, "cat,dog", "a photo"), "a photo"),
        (lambda here, _: mcd.classify(here, here, "cat,dog", top=0), "`top`"),
        (lambda here, _: mcd.embed(here, here, "photos.png"), "photos.png"),
        (lambda here, _: mcd.preprocess([here], "nan0"), "did you mean nano"),
        (lambda _, weights: mcd.export(mcd.load_model(), "onxx"), "did you mean onnx"),
        (lambda _, weights: mcd.export(mcd.load_model(), "onnx", "smallest", max_drop=-1), "`max_drop`"),
        (lambda _, weights: mcd.export(mcd.load_model(), "onnx", "smallest", budget=0), "`budget`"),
        (lambda _, weights: mcd.reinforce(image_paths()[0].parent, [], "reinforced"), "teacher"),
        (lambda _, weights: mcd.report([]), "no result was given"),
        (lambda here, _: mcd.inspect("x" * 5000), "name too long"),
        (lambda here, _: mcd.train("x" * 5000, "run"), "name too long"),
        (lambda here, _: mcd.Bundle.open(3), "`path` takes a path, not 3"),  # type: ignore[arg-type]
    ],
)
def test_what_no_annotation_can_say_is_refused_in_one_sentence_too(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MobileClipDeployError, match=f"(?i){says}") as refused:
        call(exports.bundle("onnx", "fp16").path, exports.checkpoint)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_meant_is_taken_as_python_has_it() -> None:
    """Numbers of numpy, generators and arrays of names: JSON and a second walk through them need Python's own."""

    @checked
    def f(
        numbers: int | Sequence[int],
        share: float = 0.5,
        names: str | Sequence[str] = (),
        count: Annotated[int, Bounds(1, 9)] = 1,
    ) -> list[Any]:
        return [numbers, share, names, count]

    assert f(np.int64(3), np.float32(0.5)) == [3, 0.5, (), 1]
    assert [type(value) for value in f(np.int64(3), np.float32(0.5))[:2]] == [int, float]
    assert f([1, 2], names=(name for name in "ab"))[2] == ["a", "b"]
    assert f((1,), names=np.array(["a", "b"]))[2] == ["a", "b"]
    with pytest.raises(UsageError, match=r"^`numbers` takes a whole number or a list of them, not '2' \(item 1\)$"):
        f([1, "2"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"^`count` takes a whole number from 1 to 9, not 10$"):
        f(1, count=10)


def test_what_the_system_refuses_is_one_of_the_errors_and_says_why() -> None:
    @checked
    def f(path: str) -> str:
        return Path(path).read_text()

    with pytest.raises(RuntimeFailed, match=r"^/nowhere/at/all: No such file or directory$") as refused:
        f("/nowhere/at/all")
    assert isinstance(refused.value.__cause__, FileNotFoundError)
