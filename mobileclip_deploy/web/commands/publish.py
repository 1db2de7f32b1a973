"""`publish`: put verified bundles on the Hugging Face hub."""

from pathlib import Path

import click

from mobileclip_deploy.cli.options import FILE, BundlePath, json_option


@click.command()
@click.argument("bundles", type=BundlePath(), nargs=-1, required=True, metavar="BUNDLE...")
@click.option("--to", required=True, metavar="hf:OWNER/NAME|DIR", help="Repository on the hub, or a new folder.")
@click.option("--write", is_flag=True, help="Upload or write. Without it the files are only listed.")
@click.option("--leave-out", is_flag=True, help="Leave out files that a bundle's manifest does not list.")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option(
    "--lock",
    type=FILE,
    metavar="FILE",
    help="File for the commit and its hashes [default: OWNER--NAME.lock.json].",
)
@click.option("--force", is_flag=True, help="Replace an existing folder or lock.")
@json_option
def publish(
    bundles: tuple[Path, ...],
    to: str,
    write: bool,
    leave_out: bool,
    private: bool,
    lock: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Publish verified bundles with a model card, their licence texts and the hashes of all files.

    Lists the files first; --write uploads them as one commit. The commit and the hashes go into a lock file, which
    other commands take in place of a bundle, as they take hf:OWNER/NAME@COMMIT.

    The token is the one of `hf auth login`, or HF_TOKEN.

    \b
    Example:
      mobileclip-deploy publish out/nano-onnx-fp16 --to site/
      mobileclip-deploy publish out/nano-onnx-fp16 out/nano-coreml-fp16 --to hf:OWNER/NAME --write
      mobileclip-deploy classify hf:OWNER/NAME@COMMIT photo.jpg --labels "cat,dog"
    """
    from mobileclip_deploy.base.files.names import LOCK_SUFFIX
    from mobileclip_deploy.base.files.writers import sole_writer
    from mobileclip_deploy.cli.output import note, print_json, print_table
    from mobileclip_deploy.cli.terminal import say
    from mobileclip_deploy.errors import UsageError
    from mobileclip_deploy.network.checkpoints.hub_reader import parse
    from mobileclip_deploy.network.checkpoints.weights_files import HUB
    from mobileclip_deploy.web.hub_upload import compare_with_hub, upload, write_lock
    from mobileclip_deploy.web.publishing import repository_of, write_repository

    destination = parse(to) if to.startswith(HUB) else None
    if destination is not None and (destination.revision or destination.file):
        raise UsageError(f"--to {to}: a new commit comes after the newest one; give {HUB}OWNER/NAME alone")
    name = destination.repository if destination is not None else Path(to).resolve().name
    files = repository_of(bundles, name=name, leave_out=leave_out)
    comparison = compare_with_hub(files, destination.repository) if destination is not None else None
    states = comparison.states if comparison is not None else dict.fromkeys(sorted(files.files), "new")
    document = {"repository": name, "commit": None, "lock": None, "files": states}
    if not as_json:
        sizes = [f"{files.size(path):,}" if path in files.files else "" for path in states]
        rows = zip(states, sizes, states.values(), strict=True)
        print_table(f"{len(states)} files for {to}", ["file", ">bytes", "state"], list(rows))
    if not write:
        note("Nothing was written. Add --write to publish.")
    elif comparison is None:
        written = write_repository(files, Path(to), force=force)
        note(f"wrote {written}")
    else:
        path = lock or Path(f"{name.replace('/', '--')}{LOCK_SUFFIX}")
        with sole_writer(path, "publish", force=force):
            published = upload(files, comparison, private=private, announce=note)
            write_lock(path, published)
        document |= {"commit": published.commit, "lock": str(path)}
        if not as_json:
            say(f"published {HUB}{name}@{published.commit}")
            say(f"wrote {path}")
    if as_json:
        print_json(document)
