"""The example package with a target of somebody else's, installed without pip: what is put on the path, and what says
that it has a target."""

import os
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mobileclip_deploy.targets import GROUP, targets

PACKAGE = Path(__file__).parents[1] / "examples" / "third_party_target"
MODULE = "mobileclip_torchscript"


def install(site: Path) -> None:
    """Copy the package into a folder, with the entry points of its pyproject.toml."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.copytree(
        PACKAGE / MODULE,
        site / MODULE,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    about = site / f"{MODULE}-{project['version']}.dist-info"
    about.mkdir()
    told = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (about / "METADATA").write_text(told, encoding="utf-8")
    entries = "".join(f"{name} = {value}\n" for name, value in project["entry-points"][GROUP].items())
    (about / "entry_points.txt").write_text(f"[{GROUP}]\n{entries}", encoding="utf-8")


@contextmanager
def installed(site: Path) -> Iterator[None]:
    """The package on the path of this process and of those that it starts."""
    install(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
        targets.cache_clear()
        yield
    targets.cache_clear()
    # What was imported from this folder would look for the rest of itself there, when another file installs it anew.
    for name in [name for name in sys.modules if name.partition(".")[0] == MODULE]:
        del sys.modules[name]
