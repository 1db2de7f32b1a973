"""Tables of bundles and of parity checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mobileclip_deploy.cli.output import megabytes, note, print_table
from mobileclip_deploy.cli.terminal import say

if TYPE_CHECKING:
    from mobileclip_deploy.base.intervals import Interval
    from mobileclip_deploy.errors import MobileClipDeployError
    from mobileclip_deploy.evaluation.evaluate import EvaluationResult
    from mobileclip_deploy.export.smallest import SearchLog
    from mobileclip_deploy.export.steps import Written
    from mobileclip_deploy.parity import Check, ParityReport
    from mobileclip_deploy.verify.reports.comparison import Comparison
    from mobileclip_deploy.verify.reports.several import Refused, Verified

CONFUSED = 5


def print_exports(results: Sequence[Written]) -> None:
    """Prints one row per artifact: its size, its deviation from the checkpoint, and its bundle's accuracy."""
    from mobileclip_deploy.export.smallest import Smallest
    from mobileclip_deploy.parity.report import outcome

    columns = ["bundle", "tower", ">MB", ">deviation", ">SNR dB", ">float32 twin", ">top-1 %", ">recall@1 %", "parity"]
    rows = []
    for result in results:
        bundle, report = result.bundle, result.report
        all_checks = report.checks if report else ()
        # Of several engines the last one that could run it counts.
        ran = sorted(all_checks, key=lambda check: check.status != "not run")
        checks = {(check.tower, check.step): check for check in ran}
        task = checks.get(("both", "task"))
        shown: set[str] = set()
        for first, (tower, entry) in enumerate(bundle.manifest.towers.items()):
            shipped, twin = checks.get((tower, "shipped")), checks.get((tower, "twin"))
            ended = outcome(check for check in all_checks if check.tower in (tower, "both"))
            rows.append(
                [
                    bundle.path.name if not first else "",
                    f"{tower} {entry.precision}",
                    megabytes(entry.bytes) if entry.file not in shown else "same file",
                    relative(shipped),
                    decibels(shipped),
                    relative(twin),
                    figure(task, "top1") if not first else "",
                    figure(task, "image_to_text_recall@1") if not first else "",
                    "FAILED" if ended == "failed" else ended,
                ]
            )
            shown.add(entry.file)
    print_table(None, columns, rows)
    reports = [result.report for result in results if result.report is not None]
    if reports:
        print_what_figures_mean(reports)
    else:
        say("nothing was checked (--no-verify); run `verify`")
    for result in results:
        for check in result.report.checks if result.report is not None else ():
            if check.step == "cut" or (check.step == "task" and check.losses):
                say(f"{result.bundle.path.name}: {check.detail}")
            if check.step == "shipped" and check.status != "not run" and check.deviation is None:  # a classifier's
                say(f"{result.bundle.path.name}: {check.describe()}")
            if check.step == "pictures":
                say(f"resizing inside {result.bundle.path.name}: {check.status}; {check.describe()}")
    for result in results:
        say(f"{'wrote' if result.written else 'not written:'} {result.bundle.path}")
    for result in results:
        if isinstance(result, Smallest):
            print_search(result.log)


def print_what_figures_mean(reports: Sequence[ParityReport]) -> None:
    """Prints the explanations under a table of exports."""
    if not any(check.step == "task" for report in reports for check in report.checks):
        whole = any({"image", "text"} <= {check.tower for check in report.checks} for report in reports)
        reason = "only the built-in checkpoint has a dataset of its own; name one: --dataset PATH, or --dataset builtin"
        say(f"accuracy: not measured; {reason if whole else 'it needs both towers'}")
    if not any(check.deviation for report in reports for check in report.checks if check.step == "shipped"):
        return  # classifiers have no such columns
    say("deviation: relative, of embeddings from the checkpoint's, worst over real images and prompts;")
    floor = next((report.floor for report in reports if report.floor), {})
    floors = ", ".join(f"{tower} {value:.1e}" for tower, value in floor.items())
    say(
        "float32 twin: the same graph before its precision was reduced; it must stay within a few times the noise floor"
    )
    say(f"noise floor: how far the checkpoint's own float32 is from exact arithmetic ({floors or 'not measured'})")


def print_failed_export(error: MobileClipDeployError) -> None:
    """Prints the table of all bundles and every check of the failed ones; or the attempts of a search."""
    from mobileclip_deploy.export.smallest.search import NotFound
    from mobileclip_deploy.export.steps import Written

    measured = [result for result in error.results if isinstance(result, Written)]
    if measured:
        print_exports(measured)
    for result in measured:
        if not result.written and result.report is not None:
            print_report(result.report)
    for result in error.results:
        if isinstance(result, NotFound):
            print_search(result.log)
        elif result not in measured:
            say(f"not written: {result.path}; {result.failure.line}")


def print_search(log: SearchLog) -> None:
    """Prints one row per measured candidate, the number of other candidates."""
    rows = []
    for trial in log.trials:
        precisions = ", ".join(f"{tower} {precision}" for tower, precision in trial.precisions.items())
        size = "" if trial.bytes is None else megabytes(trial.bytes)
        more = "" if trial.more is None else f"{trial.more:,}"
        rows.append([precisions, megabytes(trial.predicted_bytes), size, trial.outcome, more, trial.reason or ""])
    columns = ["candidate", ">MB predicted", ">MB", "outcome", ">more pictures", "reason"]
    print_table(f"search on {log.target}", columns, rows)
    if any(row[4] for row in rows):
        say("more pictures: about how many more the dataset would need to decide whether the candidate passes")
    if len(rows) < log.candidates:
        say(
            f"{log.candidates - len(rows)} of {log.candidates} candidates were not tried: one of their towers failed, "
            "they are larger, or the time ended."
        )


def print_verified(found: Sequence[Verified | Refused], layers: bool = False) -> None:
    """Prints the checks of each bundle, and the explanations."""
    from mobileclip_deploy.verify.reports.several import Refused

    for result in found:
        if isinstance(result, Refused):
            say(f"{result.path}: {result.failure.line}")
            continue
        print_report(result.report, layers)
        for explanation in result.explanations or ():
            say(explanation.describe())


def print_report(report: ParityReport, layers: bool = False) -> None:
    """Prints one row per check; with `layers` also one for each weight that was read back."""
    columns = ["tower", "check", "outcome", "gate", ">relative", ">cosine", ">SNR dB", "detail; engine"]
    rows = [
        [
            check.tower,
            check.step,
            check.status,
            check.gate or "",
            relative(check),
            f"{check.deviation.cosine:.6f}" if check.deviation else "",
            decibels(check),
            _detail(check),
        ]
        for check in report.checks
    ]
    print_table(f"{report.bundle}: {report.variant} on {report.target}", columns, rows)
    if report.floor:
        floors = ", ".join(f"{tower} {value:.1e}" for tower, value in report.floor.items())
        say(f"noise floor of the checkpoint in float32, relative: {floors}")
        say()
    stored = [
        [row.tower, row.grid, str(row.layers), f"{row.weights:,}", megabytes(row.bytes)] for row in report.storage
    ]
    if stored:
        print_table("weights stored as", ["tower", "grid", ">tensors", ">numbers", ">MB"], stored)
    if layers and report.weights:
        weights = [[row.tower, row.layer, row.grid, f"{row.relative:.1e}", row.wrong or ""] for row in report.weights]
        print_table("weights as stored in the file", ["tower", "layer", "grid", ">relative", "what is wrong"], weights)


def print_evaluation(result: EvaluationResult) -> None:
    """Prints one row per figure; then the hardest classes, and the pairs of classes confused most often."""
    rows = [
        [name.replace("_", " "), f"{interval.value:.2f}", f"{interval.low:.1f} .. {interval.high:.1f}"]
        for name, interval in result.figures.items()
    ]
    english_columns: list[str] = []
    if result.english is not None:
        english_columns = [">English %", ">95% interval"]
        for row, interval in zip(rows, result.english.values(), strict=True):
            row += [f"{interval.value:.2f}", f"{interval.low:.1f} .. {interval.high:.1f}"]
    blank = ["" for _ in english_columns]
    ranks = result.mean_ranks.items()
    rows += [[f"{name.replace('_', ' ')} mean rank", f"{rank:.1f}", "", *blank] for name, rank in ranks]
    counts = [f"{result.images} images"]
    counts += [f"{result.classes} classes"] if result.per_class else []
    counts += [f"{result.captions} captions"] if result.mean_ranks else []
    title = f"{result.model} on {result.dataset} ({', '.join(counts)}; {result.engine})"
    print_table(title, ["figure", ">%", ">95% interval", *english_columns], rows)
    if not result.per_class:
        return
    if len(result.templates) > 1:
        say(f"class prompts: the mean over {len(result.templates)} templates")
    shown = [entry for entry in result.per_class if entry.top1 is not None]
    shown.sort(key=lambda entry: (entry.top1, -entry.images, entry.name))
    rows = [
        [entry.name, str(entry.images), *map(_tenths, (entry.top1, entry.precision, entry.average_precision))]
        for entry in shown[:CONFUSED]
    ]
    print_table("classes least often right", ["class", ">images", ">top-1 %", ">precision %", ">AP %"], rows)
    if result.averages:
        names = ("precision", "recall", "average_precision")
        rows = [
            [kind, *(_tenths(result.averages.get(f"{kind}_{name}")) for name in names)] for kind in ("macro", "micro")
        ]
        print_table("over all classes", ["mean", ">precision %", ">recall %", ">AP %"], rows)
    if confused := result.most_confused(CONFUSED):
        pairs = [[right, nearest, str(count)] for right, nearest, count in confused]
        print_table("most often mispredicted as another", ["class", "predicted as", ">images"], pairs)
    say("every class and the whole confusion table: --json")


def _tenths(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def print_comparison(comparison: Comparison) -> None:
    """Prints one row per bundle."""
    columns = ["bundle", ">MB", ">deviation", ">SNR dB", ">top-1 %", ">change", ">recall@1 %", ">change", "gates"]
    rows = []
    for row in comparison.bundles:
        accuracy = [
            text
            for name in ("top1", "image_to_text_recall@1")
            for text in (percent(row.figures.get(name)), points(row.differences.get(name)))
        ]
        deviation = "" if row.relative is None else f"{row.relative:.1e}"
        ratio = "" if row.relative is None else "exact" if row.relative == 0 else "not judged"
        ratio = ratio if row.snr_db is None else f"{row.snr_db:.1f}"
        rows.append([row.bundle, megabytes(row.bytes), deviation, ratio, *accuracy, row.status])
    print_table(None if comparison.dataset is None else f"on {comparison.dataset}", columns, rows)
    against = list(dict.fromkeys(row.baseline for row in comparison.bundles if row.baseline))
    if against:
        say(f"change: points against {', '.join(against)}, with a paired 95% interval")
    for row in comparison.bundles:
        for reason in row.reasons:
            say(f"{row.bundle}: {reason}")


def percent(interval: Interval | None) -> str:
    """Returns a figure in percent; empty for None."""
    return "" if interval is None else f"{interval.value:.2f}"


def points(interval: Interval | None) -> str:
    """Returns a difference in points with its interval; empty for None."""
    if interval is None:
        return ""
    value, low, high = (round(number, 2) + 0.0 for number in (interval.value, interval.low, interval.high))
    return f"{value:+.2f} ({low:+.2f} .. {high:+.2f})"


def note_skipped(skipped: Sequence[str], what: str = "row", shown: int = CONFUSED) -> None:
    """Prints on stderr the rows of a dataset, or images, that were left out; the first `shown` by name."""
    if not skipped:
        return
    note(f"Skipped {len(skipped)} bad {what}{'s' if len(skipped) > 1 else ''}:")
    for text in skipped[:shown]:
        note(f"  {text}")
    if len(skipped) > shown:
        note(f"  and {len(skipped) - shown} more (all of them: --json)")


def relative(check: Check | None) -> str:
    """Returns the relative deviation of a check; empty without one."""
    return f"{check.deviation.relative:.1e}" if check and check.deviation else ""


def decibels(check: Check | None) -> str:
    """Returns the centred signal-to-noise ratio of a check; empty without one."""
    return check.deviation.decibels if check and check.deviation else ""


def figure(check: Check | None, name: str) -> str:
    """Returns an accuracy in percent, and its drop in points, with a 95% interval if measured.

    The accuracy is that of the plain images. The drop is that of all runs, with the sign that the check uses.
    """
    # Not every dataset has classes and captions.
    if check is None or check.figures is None or name not in check.figures:
        return ""
    if f"{name}_drop" not in check.figures:
        return f"{check.figures[name]:.3g}"
    lost = (check.losses or {}).get(name)
    drop = round(lost.points if lost else check.figures[f"{name}_drop"], 2) + 0.0  # no negative zero
    sure = f" \N{PLUS-MINUS SIGN} {lost.error:.2f}" if lost else ""
    return f"{check.figures[name]:.1f} (drop {drop:+.2f}{sure})"


def _detail(check: Check) -> str:
    """Returns the detail of a check, all accuracies of a task check, and the engine. Several engines, such as one per
    chip, have a row each."""
    names = [name for name in check.figures or {} if not name.endswith("_drop")]
    accuracies = ", ".join(f"{name} {figure(check, name)}" for name in names)
    text = ": ".join(part for part in (check.detail, accuracies) if part)
    return "; ".join(part for part in (text, check.engine) if part)
