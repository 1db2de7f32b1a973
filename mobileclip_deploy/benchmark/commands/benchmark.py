"""`benchmark`: how long bundles take on a device, and whether they answer rightly there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mobileclip_deploy.base.escaping import shown_json
from mobileclip_deploy.cli import completion
from mobileclip_deploy.cli.options import FILE, BundlePath
from mobileclip_deploy.cli.terminal import say


def _by_runtime(_context: click.Context, _option: click.Parameter, words: tuple[str, ...]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    for word, (runtime, _, version) in zip(words, pairs, strict=True):
        if not runtime or not version:
            raise click.BadParameter(f"{word!r} is not RUNTIME=VERSION; write for example onnxruntime=1.31.0")
    return {runtime: version for runtime, _, version in pairs}


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=BundlePath(), metavar="BUNDLE...")
@click.option(
    "--device",
    default="host",
    show_default=True,
    metavar="KIND[:ID]",
    shell_complete=completion.names("benchmark.driver", "DRIVERS"),
    help="As `devices` lists them.",
)
@click.option("--protocol", default="standard", show_default=True, help="standard, paced, paper or mlperf.")
@click.option("--quick", is_flag=True, help="A few inferences only, to see that it runs.")
@click.option("--tower", type=click.Choice(["image", "text", "both"]), default="both", show_default=True)
@click.option("--threads", default="1", show_default=True, metavar="N[,N...]", help="Threads of the runtime.")
@click.option("--against", multiple=True, type=FILE, metavar="FILE", help="A competitor, .onnx, .pte or .tflite.")
@click.option("--torch", "forms", metavar="FORM[,FORM]", help="The checkpoint too: unfolded, folded, compiled or all.")
@click.option("--checkpoint", type=FILE, metavar="FILE", help="The source, for --torch.")
@click.option(
    "--json",
    "output",
    type=FILE,
    metavar="FILE|-",
    help="Where the result goes; -: on stdout too, instead of the table [default: benchmark-KIND-TIME.json].",
)
@click.option("--force", is_flag=True, help="Replace a result that is there.")
@click.option("--resume", is_flag=True, help="Go on with the interrupted run of --json FILE.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Of the order of the rounds; random when left out.")
@click.option("--team", envvar="MOBILECLIP_DEPLOY_TEAM", metavar="ID", help="Apple team that signs the iPhone's app.")
@click.option("--runners", type=FILE, metavar="FILE", help="Programs for Android phones: their archive, or a folder.")
@click.option(
    "--runtime-version",
    "runtime_versions",
    multiple=True,
    callback=_by_runtime,
    metavar="RUNTIME=VERSION",
    help="With --device android: Use another version of a runtime, from PyPI, such as onnxruntime=1.31.0. "
    "[default: the one that the programs' archive names]",
)
@click.option("--engine", metavar="NAME", help="qnn-net-run: a phone's NPU, by Qualcomm's SDK (docs/qualcomm.md).")
@click.option(
    "--job",
    "job_folder",
    type=FILE,
    metavar="FOLDER",
    help="Write the job there, for a phone that is out of reach (docs/farms.md), and measure nothing.",
)
@click.option("--profile", is_flag=True, help="Operator times as well, from one more inference.")
def benchmark(
    bundles: tuple[Path, ...],
    forms: str | None,
    output: Path | None,
    job_folder: Path | None,
    **asked: Any,
) -> None:
    """Time the towers of bundles on a device, in turns, each in a process of its own.

    No latency is given for a model whose answers to the golden inputs are wrong: then the exit code is 1. The result
    is a JSON file, from which `report` makes a page. --json - prints it as well, and keeps it in a file of the usual
    name.

    \b
    Example:
      mobileclip-deploy benchmark out/nano-onnx-fp32 out/nano-executorch-fp32 --json result.json
      mobileclip-deploy benchmark out/mobileclip_s0-onnx-fp32 --tower image --torch all --checkpoint mobileclip_s0.pt
      mobileclip-deploy benchmark out/mobileclip_s0-onnx-fp32 --against someone_elses.onnx --threads 1,4
    """
    from mobileclip_deploy.benchmark.commands.tables import print_result
    from mobileclip_deploy.benchmark.door import benchmark as measure
    from mobileclip_deploy.benchmark.door import write_job
    from mobileclip_deploy.benchmark.judgement import run_warnings
    from mobileclip_deploy.cli.output import conclude, note, progress

    if job_folder is not None:
        planned = {
            name: asked[name]
            for name in ("device", "protocol", "quick", "tower", "seed", "runners", "runtime_versions")
        }
        with progress() as update:
            written = write_job(bundles, job_folder, progress=update, **planned)
        say(f"wrote {written}")
        return
    printed = output == Path("-")
    asked |= {"torch": forms or (), "output": None if printed else output}
    with progress() as update:
        outcome = measure(bundles, progress=update, **asked)
    if printed:
        say(shown_json(outcome.result.model_dump_json()))
    else:
        print_result(outcome.result)
    say(f"wrote {outcome.output}", err=printed)
    for text in (*outcome.left_out, *run_warnings(outcome.result)):
        note(f"Note: {text}")
    if (failure := outcome.failure) is not None:
        conclude(failure)
