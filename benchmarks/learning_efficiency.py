"""How many samples the built-in network needs from scratch, with and without reinforcement: held-out recall.

    mobileclip-deploy reinforce /tmp/nano/pairs -o /tmp/nano/reinforced   # by the built-in nano; --teacher for others
    python benchmarks/learning_efficiency.py --data /tmp/nano/reinforced --work /tmp/nano/efficiency

Two arms on the same reinforced dataset: plain (lambda 0: CLIP's loss, the teachers unread) and reinforced. Both see
the same images, augmentations and captions in the same order and start from the same weights, seed by seed. Learning
rate and decay of the average were chosen once, for both, and tuned for neither. Writes
benchmarks/results/learning_efficiency.json, and docs/figures/learning_efficiency.svg and training.md.
Finished runs in the work folder are kept, others go on where they were stopped; `--seeds 2` reports two seeds. About
an hour of one core.
"""

import argparse
import csv
import hashlib
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from measuring import ROOT, Figures, markdown, versions

from mobileclip_deploy.evaluation.dataset_files import builtin_dataset, read_dataset
from mobileclip_deploy.training.reinforcement.index import ShardIndex, read_index

KEPT = Figures("learning_efficiency", "figures/training.md")
PLOT = ROOT / "docs" / "figures" / "learning_efficiency.svg"
ARMS = {"plain": 0.0, "reinforced": 0.7}
COLOURS = {"plain": "#b35806", "reinforced": "#2166ac"}
STUDENT = "nano"
COMMON = {"learning_rate": 2e-3, "warmup": 0.1, "average": 0.98}
MEASUREMENTS = 10
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""97.5% quantiles by the number of values, of a table of Student's t; more values take the last, which is wider."""
WANTED_SEEDS, WANTED_HITS = 3, 100
RECALLS = ("image_to_text_recall", "text_to_image_recall")
FIGURE = RECALLS[0]
NAMES = {"image_to_text_recall": "image to text", "text_to_image_recall": "text to image"}
TRAIN = """\
import json, pathlib, sys, torch
import mobileclip_deploy as mcd
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset, read_dataset
from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder
from mobileclip_deploy.evaluation.evaluate import measure
from mobileclip_deploy.training.trainer.recipe import read_recipe
torch.set_num_threads(1)
recipe, folder = map(pathlib.Path, sys.argv[1:])
weights = mcd.train(recipe, folder).weights
held_out = read_recipe(recipe).evaluation
dataset = builtin_dataset() if held_out is None else read_dataset(held_out)
found = measure(model_embedder(mcd.load_model(None, weights)), dataset, ("retrieval",)).result.figures
figures = {name: figure.value for name, figure in found.items()}
(folder / "final.json").write_text(json.dumps(figures), encoding="utf-8")
"""

Curve = Sequence[tuple[float, float]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is not trained yet, write the figures and the plot, and renew the block."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a reinforced dataset of nano's training images")
    parser.add_argument("--work", type=Path, required=True, help="folder for the trainings")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, one thread each")
    parser.add_argument("--evaluation", type=Path, help="held-out dataset; the built-in one when left out")
    chosen = parser.parse_args(arguments)
    index = read_index(chosen.data)
    # Seed by seed: what is stopped early leaves pairs.
    wanted = [(arm, seed) for seed in range(chosen.seeds) for arm in ARMS]
    with ThreadPoolExecutor(chosen.jobs) as pool:
        runs = list(pool.map(lambda run: _trained(run[0], run[1], chosen, index), wanted))
    result = _result(runs, chosen, index)
    KEPT.write(result)
    plot(result, PLOT)
    KEPT.show(block(result))
    print(block(result))


def _trained(arm: str, seed: int, chosen: argparse.Namespace, index: ShardIndex) -> dict[str, Any]:
    """One run: trained in a process of its own unless it is there."""
    dataset = hashlib.sha256(index.model_dump_json(exclude={"shards", "images"}).encode()).hexdigest()
    folder = chosen.work / f"{dataset[:8]}-{chosen.steps}x{chosen.batch}" / f"{arm}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    recipe = {
        "version": 1,
        "variant": STUDENT,
        "data": str(chosen.data.resolve()),
        "steps": chosen.steps,
        "batch": chosen.batch,
        "seed": seed,
        "distillation": ARMS[arm],
        "evaluate_every": max(1, chosen.steps // MEASUREMENTS),
        **COMMON,
    }
    if chosen.evaluation is not None:
        recipe["evaluation"] = str(chosen.evaluation.resolve())
    file, final, text = folder / "recipe.yaml", folder / "final.json", yaml.safe_dump(recipe)
    if not final.is_file() or file.read_text(encoding="utf-8") != text:
        print(f"training {arm}, seed {seed}", file=sys.stderr, flush=True)
        file.write_text(text, encoding="utf-8")
        subprocess.run([sys.executable, "-c", TRAIN, str(file), str(folder)], check=True)
    with (folder / "log.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {
        "arm": arm,
        "seed": seed,
        "final": json.loads(final.read_text(encoding="utf-8")),
        "weights_sha256": hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest(),
        "curve": [
            {"samples": int(row["samples"])} | {name: float(row[name]) for name in ("loss", *RECALLS)} for row in rows
        ],
    }


def _result(runs: list[dict[str, Any]], chosen: argparse.Namespace, index: ShardIndex) -> dict[str, Any]:
    held_out = builtin_dataset() if chosen.evaluation is None else read_dataset(chosen.evaluation)
    packages = versions("mobileclip-deploy", "torch", "open_clip_torch", "numpy", "pillow")
    teachers = [{"file": t.file, "variant": t.variant, "sha256": t.sha256} for t in index.teachers]
    return {
        "schema_version": 1,
        "versions": {"python": sys.version.split()[0]} | packages,
        "settings": {"student": STUDENT, "steps": chosen.steps, "batch": chosen.batch, "seeds": chosen.seeds, **COMMON},
        "distillation": ARMS,
        "data": {
            "pairs": index.rows,
            "pairs_sha256": index.pairs_sha256,
            "augmentations": index.augmentations,
            "teachers": teachers,
        },
        "held_out": {"name": held_out.name, "images": len(held_out.images)},
        "runs": runs,
    } | summary(runs)


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean curves; and for each recall the factor of the mean curves, and of each seed's own two."""
    curves = {arm: [run["curve"] for run in runs if run["arm"] == arm] for arm in ARMS}
    means = {
        arm: [
            {"samples": rows[0]["samples"]} | {name: sum(row[name] for row in rows) / len(rows) for name in RECALLS}
            for rows in zip(*found, strict=True)
        ]
        for arm, found in curves.items()
    }
    pairs = [dict(zip(ARMS, pair, strict=True)) for pair in zip(*curves.values(), strict=True)]
    factors = {
        name: {"mean": _factor(means, name), "by_seed": [_factor(pair, name) for pair in pairs]} for name in RECALLS
    }
    return {"means": means, "factors": factors}


def _factor(curves: dict[str, Any], name: str) -> dict[str, Any]:
    plain, reinforced = ([(row["samples"], row[name]) for row in curves[arm]] for arm in ARMS)
    return factor(plain, reinforced)


def factor(plain: Curve, reinforced: Curve) -> dict[str, Any]:
    """How many times the samples of the better arm the other needs for its own best recall.

    `better` is the arm that gets to the other's best (the reinforced one where each does). `at_least`: it was already
    there at its first measurement, so that the factor is a lower bound.
    """
    curves = {"plain": plain, "reinforced": reinforced}
    better, other = "reinforced", "plain"
    if samples_to_reach(reinforced, _best(plain)[1]) is None:
        better, other = other, better
    needed, level = _best(curves[other])
    reached = samples_to_reach(curves[better], level)
    assert reached is not None, "one of two curves reaches the best of the other"
    return {
        "better": better,
        "recall": level,
        "samples_other": needed,
        "samples_better": reached,
        "factor": needed / reached,
        "at_least": curves[better][0][1] >= level,
    }


def _best(curve: Curve) -> tuple[float, float]:
    """The first of its highest measurements."""
    return max(curve, key=lambda point: point[1])


def samples_to_reach(curve: Curve, level: float) -> float | None:
    """The samples at which a curve first comes to a level, on straight lines between its measurements; None: never."""
    before: tuple[float, float] | None = None
    for samples, value in curve:
        if value >= level:
            if before is None:
                return samples
            return before[0] + (samples - before[0]) * (level - before[1]) / (value - before[1])
        before = (samples, value)
    return None


def block(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    settings, data, images = result["settings"], result["data"], result["held_out"]["images"]
    seeds = sorted({run["seed"] for run in result["runs"]})
    finals = {(run["arm"], run["seed"]): run["final"] for run in result["runs"]}
    samples = result["means"]["plain"][-1]["samples"]
    teachers = ", ".join(f"{t['variant']} (SHA-256 {t['sha256'][:8]})" for t in data["teachers"])
    same = sum(teacher["variant"] == settings["student"] for teacher in data["teachers"])
    lines = [
        f"![Recall on the held-out set against samples seen, plain and reinforced]({PLOT.name})",
        "",
        f"{settings['student']} from random weights, {_counted(len(seeds))}, {settings['steps']} steps of "
        f"{settings['batch']}: {samples:,} samples of {data['pairs']:,} pairs with {data['augmentations']} "
        f"augmentations each. Plain is lambda {result['distillation']['plain']:g}, reinforced lambda "
        f"{result['distillation']['reinforced']:g}; all else is the same, seed by seed: first weights, images, "
        f"augmentations, captions, their order, schedule (learning rate {settings['learning_rate']:g}, average's decay "
        f"{settings['average']:g}: chosen once, tuned for neither). Teachers: {teachers}. Recall in percent on "
        f"{images:,} held-out images ({result['held_out']['name']}; chance: {100 / images:.2f} @1, {1000 / images:.2f} "
        "@10) after the last step, @1 and @10:",
        "",
    ]
    rows = []
    for recall, words in NAMES.items():
        for arm in ARMS:
            found = [[finals[arm, seed][f"{recall}@{k}"] for k in (1, 10)] for seed in seeds]
            found.append([sum(values) / len(seeds) for values in zip(*found, strict=True)])
            rows.append([words, arm, *(", ".join(f"{value:.2f}" for value in values) for values in found)])
    lines += [
        *markdown(("", "", *(f"seed {seed}" for seed in seeds), "mean"), rows),
        "",
        "How many times the samples of the arm ahead the other needs for its own best recall@1 (mean over seeds, "
        "straight lines between measurements):",
        "",
    ]
    rows = []
    for recall, words in NAMES.items():
        found = result["factors"][recall]
        mean = found["mean"]
        best = f"{mean['recall']:.2f}% ({mean['recall'] / 100 * images:.1f} of {images:,})"
        reached = f"{'at most ' if mean['at_least'] else ''}{mean['samples_better']:,.0f}"
        by_seed = ", ".join(_one(one, mean["better"]) for one in found["by_seed"])
        cells = [words, mean["better"], best, f"{mean['samples_other']:,.0f}", reached]
        rows.append([*cells, f"**{_one(mean, mean['better'])}**", by_seed])
    heads = ("", "ahead", "the other's best", "its samples", "those of the arm ahead", "factor", "seed by seed")
    lines += markdown(heads, rows)
    texts = [_effect(result), _certainty(result, len(seeds)), _limits(len(data["teachers"]), same)]
    return "\n".join([*lines, *(line for text in texts if text for line in ("", text))])


def _effect(result: dict[str, Any]) -> str:
    """Size of the effect over the seeds, in one sentence; empty for a single seed, which gives no interval."""
    parts, seeds, student = [], 0, result["settings"]["student"]
    for recall, words in NAMES.items():
        by_seed = result["factors"][recall]["by_seed"]
        seeds = len(by_seed)
        if seeds < min(STUDENT_T):
            return ""
        value, low, high = geometric([_times(one) for one in by_seed])
        parts.append(f"{value:.2f} times ({low:.2f} to {high:.2f}) from {words}")
    return (
        f"**Size of the effect**: for its own best recall@1, {student} without teachers needs {' and '.join(parts)} "
        f"the samples that it needs with teachers (geometric mean of {_counted(seeds)}; 95%, Student's t on "
        "logarithms). This says nothing of other networks, teachers and amounts of data."
    )


def _times(found: dict[str, Any]) -> float:
    """Samples of the plain arm over those of the reinforced arm."""
    return float(found["factor"] if found["better"] == "reinforced" else 1 / found["factor"])


def geometric(factors: Sequence[float]) -> tuple[float, float, float]:
    """Returns the geometric mean with its 95% interval, of at least two factors."""
    logarithms = [math.log(value) for value in factors]
    middle = statistics.mean(logarithms)
    half = STUDENT_T[min(len(factors), max(STUDENT_T))] * statistics.stdev(logarithms) / math.sqrt(len(factors))
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def _certainty(result: dict[str, Any], seeds: int) -> str:
    """How far the factor can be trusted: hits are counted, so that `n` of them are known to about their root."""
    images, mean = result["held_out"]["images"], result["factors"][FIGURE]["mean"]
    hits = round(mean["recall"] / 100 * images * seeds)
    share = 1 / hits**0.5 if hits else 1.0
    text = (
        f"The image-to-text factor is read at {hits:,} hits of {images * seeds:,} ({_counted(seeds)}), which counting "
        f"alone makes uncertain by {share:.0%} (a standard error)"
    )
    if seeds < WANTED_SEEDS or hits < WANTED_HITS:
        done = f" {seeds} of {WANTED_SEEDS} seeds were run to the end." if seeds < WANTED_SEEDS else ""
        return (
            f"**Too little to conclude from.**{done} {text}; a factor means something from {WANTED_SEEDS} seeds and "
            f"{WANTED_HITS} hits on. The command goes on where it stopped, and takes `--steps`."
        )
    return f"{text}."


def _counted(seeds: int) -> str:
    return "1 seed" if seeds == 1 else f"{seeds} seeds"


def _one(found: dict[str, Any], expected: str) -> str:
    text = f"{'at least ' if found['at_least'] else ''}{found['factor']:.2f}"
    return text if found["better"] == expected else f"{text} ({found['better']} ahead)"


def _limits(teachers: int, same: int) -> str:
    trained = "The teachers were trained on the same images"
    if teachers == 1:
        trained = "The one teacher was trained on the same images"
    if same:
        whose = "it has" if teachers == 1 else f"{same} of the {teachers} {'has' if same == 1 else 'have'}"
        trained += f", and {whose} the student's own architecture"
    return (
        "This neither confirms nor refutes the paper's 10 to 1000 times, which is of another scale: here are a tiny "
        f"network and drawings. {trained}. That training and the storing of what was said are not counted in the "
        "samples. Both arms end their schedules at the last sample, so the arm that is ahead is read off before its "
        "learning rate has come down. How the factor changes with longer runs or other settings was not measured."
    )


def plot(result: dict[str, Any], path: Path) -> None:
    """Mean and range over seeds of both arms' recall against samples."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    with mpl.rc_context({"svg.hashsalt": "learning_efficiency", "font.size": 11, "axes.spines.top": False}):
        figure, axes = plt.subplots(figsize=(7, 4.2))
        axes.spines["right"].set_visible(False)
        for arm, weight in result["distillation"].items():
            curves = [[row[FIGURE] for row in run["curve"]] for run in result["runs"] if run["arm"] == arm]
            samples = [row["samples"] for row in result["means"][arm]]
            low, high = ([end(values) for values in zip(*curves, strict=True)] for end in (min, max))
            axes.fill_between(samples, low, high, color=COLOURS[arm], alpha=0.18, linewidth=0)
            mean = [row[FIGURE] for row in result["means"][arm]]
            axes.plot(samples, mean, "o-", color=COLOURS[arm], markersize=4, label=f"{arm} (λ = {weight:g})")
        found = result["factors"][FIGURE]["mean"]
        axes.plot(
            [found["samples_better"], found["samples_other"]],
            [found["recall"]] * 2,
            "--",
            color="#555555",
            linewidth=1.2,
            label=f"same recall: {'≥ ' if found['at_least'] else ''}{found['factor']:.2f} times the samples",
        )
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:,.0f}"))
        axes.set_xlabel("samples seen")
        axes.set_ylabel("image-to-text recall@1, held out (%)")
        seeds = result["settings"]["seeds"]
        spread = "one seed" if seeds == 1 else f"mean and range of {seeds} seeds"
        axes.set_title(f"{result['settings']['student']} from random weights: {spread}", fontsize=11)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, loc="upper left")
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None}, facecolor="white")
        plt.close(figure)


if __name__ == "__main__":
    main()
