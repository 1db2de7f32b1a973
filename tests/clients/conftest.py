"""What tests of several clients share."""

import json
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from building import locked
from exports import Exports
from java_client import JavaClient, built
from web.published import Published, local_hub, publish

from mobileclip_deploy.artifacts.bundle.published import fetch_bundle


@pytest.fixture
def seed() -> int:
    """Another one in each run; a failure shows it."""
    chosen = secrets.randbelow(2**31)
    print(f"seed {chosen}")
    return chosen


@pytest.fixture(scope="module")
def client(require_tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> JavaClient:
    """The Java package and its tests' programs."""
    return built(require_tool, tmp_path_factory.mktemp("java"))


@pytest.fixture(scope="module")
def published(exports: Exports) -> Published:
    """Nano's bundle, published once for all processes: nothing may change it."""
    folder = exports.folder / "published"
    with locked(exports.folder / ".published.lock"):
        if not (folder / "done.json").exists():
            folder.mkdir(exist_ok=True)
            with local_hub(folder):
                source = exports.bundle("onnx", "fp32").path
                lock = publish(source, "--to", "hf:owner/nano", "--write", "--force")["lock"]
                paths = [str(fetch_bundle(lock, lambda _: None)), str(folder / lock)]
                (folder / "done.json").write_text(json.dumps(paths), encoding="utf-8")
        return Published(*map(Path, json.loads((folder / "done.json").read_text(encoding="utf-8"))))
