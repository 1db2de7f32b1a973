"""benchmarks/learning_efficiency.py: its factor on made-up curves, and the pages that have it."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from programs import loaded

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "learning_efficiency.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # as for a script that is run
    return loaded(SCRIPT)


def runs(*recalls: tuple[str, int, list[float]]) -> list[dict[str, Any]]:
    """Runs with these recalls after 100, 200, ... samples."""

    def row(number: int, value: float) -> dict[str, float]:
        return {
            "samples": 100 * (number + 1),
            "loss": 1.0,
            "image_to_text_recall": value,
            "text_to_image_recall": 50 - value,
        }

    return [
        {"arm": arm, "seed": seed, "curve": [row(number, value) for number, value in enumerate(values)]}
        for arm, seed, values in recalls
    ]


def test_a_level_is_reached_on_the_straight_line_between_measurements(script: ModuleType) -> None:
    curve = [(100, 1.0), (200, 2.0), (300, 6.0), (400, 5.0), (500, 7.0)]
    assert script.samples_to_reach(curve, 3.0) == 225
    assert script.samples_to_reach(curve, 5.5) == 287.5, "the first time, not the last"
    assert script.samples_to_reach(curve, 6.0) == 300
    assert script.samples_to_reach(curve, 0.5) == 100
    assert script.samples_to_reach(curve, 7.1) is None


def test_the_factor_is_the_samples_of_the_worse_arm_over_those_of_the_better(script: ModuleType) -> None:
    plain, reinforced = [(100, 1.0), (200, 2.0), (400, 4.0)], [(100, 2.0), (200, 6.0), (400, 8.0)]
    found = script.factor(plain, reinforced)
    assert found == {
        "better": "reinforced",
        "recall": 4.0,
        "samples_other": 400,
        "samples_better": 150,
        "factor": 400 / 150,
        "at_least": False,
    }
    plain, reinforced = [(100, 2.0), (200, 6.0)], [(100, 1.0), (200, 4.0)]
    found = script.factor(plain, reinforced)
    assert (found["better"], found["factor"], found["recall"]) == ("plain", 200 / 150, 4.0)
    found = script.factor([(100, 1.0), (200, 2.0)], [(100, 3.0), (200, 4.0)])
    assert (found["factor"], found["at_least"]) == (2, True)
    curve = [(100, 1.0), (200, 3.0), (300, 2.0)]
    assert script.factor(curve, curve)["factor"] == 1


def test_the_factor_is_of_mean_curves_and_seeds_are_compared_with_themselves(script: ModuleType) -> None:
    summed = script.summary(
        runs(
            ("plain", 0, [1.0, 2.0]),
            ("reinforced", 0, [1.0, 3.0]),
            ("plain", 1, [3.0, 6.0]),
            ("reinforced", 1, [1.0, 9.0]),
        )
    )
    assert [row["image_to_text_recall"] for row in summed["means"]["plain"]] == [2.0, 4.0]
    assert [row["text_to_image_recall"] for row in summed["means"]["reinforced"]] == [49.0, 44.0]
    found = summed["factors"]["image_to_text_recall"]
    assert found["mean"]["factor"] == pytest.approx(200 / 160)  # 4 between 1 at 100 and 6 at 200
    assert [one["samples_better"] for one in found["by_seed"]] == [150, 162.5]
    # 50 less those: 48 at the plain arm's start, which the reinforced arm passes at its own with 49.
    assert summed["factors"]["text_to_image_recall"]["mean"]["better"] == "reinforced"


@pytest.mark.parametrize(
    ("seeds", "recall", "said"),
    [
        (3, 10.0, "read at 300 hits of 3,000 (3 seeds), which counting alone makes uncertain by 6%"),
        (3, 3.0, "**Too little to conclude from.** The image-to-text factor is read at 90 hits of 3,000"),
        (
            2,
            10.0,
            "**Too little to conclude from.** 2 of 3 seeds were run to the end. The image-to-text factor is read",
        ),
        (1, 0.0, "read at 0 hits of 1,000 (1 seed), which counting alone makes uncertain by 100%"),
    ],
)
def test_a_factor_from_few_seeds_or_hits_is_said_to_mean_little(
    script: ModuleType, seeds: int, recall: float, said: str
) -> None:
    result = {"held_out": {"images": 1000}, "factors": {"image_to_text_recall": {"mean": {"recall": recall}}}}
    text = script._certainty(result, seeds)
    assert said in text
    assert text.startswith("**Too little") == ("**" in said or recall == 0)


@pytest.mark.slow
def test_the_size_of_the_effect_has_an_interval_and_the_pages_have_it(script: ModuleType) -> None:
    assert script.geometric([2.0, 8.0]) == pytest.approx((4.0, 4 / 2**12.706, 4 * 2**12.706))
    result = script.KEPT.read()
    assert script.KEPT.shown() == script.block(result)
    by_seed = result["factors"][script.FIGURE]["by_seed"]
    value, low, high = script.geometric([found["factor"] for found in by_seed])
    page = (script.ROOT / "docs" / "reinforcement.md").read_text(encoding="utf-8")
    assert f"{value:.2f} times the samples (95%: {low:.2f} to {high:.2f})" in page
    assert (
        script._effect(
            {"settings": {"student": "nano"}, "factors": {name: {"by_seed": by_seed[:1]} for name in script.NAMES}}
        )
        == ""
    )


def test_the_published_block_and_factors_are_those_of_the_results(script: ModuleType) -> None:
    result = script.KEPT.read()
    assert script.KEPT.shown() == script.block(result)
    assert script.summary(result["runs"]) == {name: result[name] for name in ("means", "factors")}
