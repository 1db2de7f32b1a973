"""onnxruntime-web without npm: from its registry, held to the same hashes."""

import functools
import hashlib
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from packed import write_tar
from programs import serving

from mobileclip_deploy.base.pages import runtime
from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.errors import RuntimeFailed

CONTENTS = {name: f"// {name}\n".encode() for name in runtime.FILES}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A registry on this machine, whose release is a small one, and a user who has no npm; the release's folder."""
    served = tmp_path / "registry"
    release = served / runtime.RUNTIME / "-"
    release.mkdir(parents=True)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(served))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    monkeypatch.setattr(runtime, "FILES", hashes)
    with serving(handler) as address:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{address}/")
        yield release


def publish(release: Path, contents: dict[str, bytes]) -> None:
    members = [(f"package/dist/{name}", content) for name, content in contents.items()]
    write_tar(release / f"{runtime.RUNTIME}-{runtime.VERSION}.tgz", members, "w:gz")


def test_without_npm_the_release_comes_from_its_registry_once(registry: Path) -> None:
    publish(registry, CONTENTS)
    folder = runtime.runtime_folder(silent)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == CONTENTS
    next(registry.iterdir()).unlink()
    assert runtime.runtime_folder(silent) == folder


def test_what_a_registry_has_under_the_release_s_name_is_held_to_its_hashes(registry: Path) -> None:
    publish(registry, CONTENTS | {"ort.wasm.min.mjs": b"alert(1)"})
    with pytest.raises(RuntimeFailed, match=r"from npm: .*is missing or not from onnxruntime-web"):
        runtime.runtime_folder(silent)
    publish(registry, dict(list(CONTENTS.items())[1:]))
    with pytest.raises(RuntimeFailed, match="holds no dist/"):
        runtime.runtime_folder(silent)
    (registry / f"{runtime.RUNTIME}-{runtime.VERSION}.tgz").write_bytes(b"no archive")
    with pytest.raises(RuntimeFailed, match="is damaged"):
        runtime.runtime_folder(silent)


def test_without_npm_a_registry_that_does_not_answer_and_none_at_all_are_told_with_what_to_do(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        RuntimeFailed, match=r"http://127\.0\.0\.1:\d+ does not serve onnxruntime-web .*404.*install npm"
    ):
        runtime.runtime_folder(silent)
    monkeypatch.delenv("NPM_CONFIG_REGISTRY")
    with pytest.raises(RuntimeFailed, match=r"is missing: install npm .*NPM_CONFIG_REGISTRY.*MOBILECLIP_ONNXRUNTIME"):
        runtime.runtime_folder(silent)
