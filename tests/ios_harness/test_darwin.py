"""What is compiled for Apple's systems alone, type-checked here against the declarations of their SDK that it uses: in
both forms of the SDK, and in both modes of Swift."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from programs import output
from swift_package import CLIENT_SOURCES, HARNESS, swift_tool

SDK = Path(__file__).parents[1] / "darwin"
CORE_SOURCES = HARNESS / "HarnessCore" / "Sources" / "HarnessCore"
# Conditions, as they are on each system; Linux's own name is the one that this compiler takes for true.
SYSTEMS = {
    "iOS": {"os(Linux)": "false", "os(iOS)": "true", "os(macOS)": "false", "canImport(UIKit)": "true"},
    "macOS": {"os(Linux)": "false", "os(iOS)": "false", "os(macOS)": "true", "canImport(UIKit)": "false"},
}

PACKAGES = {"harness": CORE_SOURCES, "client": CLIENT_SOURCES}


def as_on(system: str, sources: Path, into: Path) -> list[Path]:
    """Copies of a package's sources with the conditions of a system decided, and with what its Foundation exports."""
    copies = []
    for source in sorted(sources.rglob("*.swift")):
        text = source.read_text(encoding="utf-8")
        for condition, value in SYSTEMS[system].items():
            text = re.sub(rf"(#(?:else)?if .*){re.escape(condition)}", rf"\g<1>{value}", text)
        text = re.sub(r"^import Foundation$", "import AppleFoundation; import Foundation", text, flags=re.MULTILINE)
        copies.append(into / f"{'_'.join(source.relative_to(sources).parts)}")
        copies[-1].write_text(text, encoding="utf-8")
    return copies


def compile_sdk(options: Sequence[str], into: Path) -> None:
    """The SDK's modules, as far as they are known here."""
    for name in ("ObjectiveC", "AppleFoundation", "CryptoKit"):
        command = [swift_tool("swiftc"), "-emit-module", "-parse-as-library", *options, "-module-name", name]
        output(*command, SDK / f"{name}.swift", "-o", into / f"{name}.swiftmodule")


@pytest.mark.parametrize("mode", ["6", "5"])
@pytest.mark.parametrize("form", ["before 15.4", "15.4"])
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_compiles_with_an_sdk(
    swift: Path, tmp_path: Path, package: str, system: str, form: str, mode: str
) -> None:
    define = ["-D", "SDK_15_4", "-Xcc", "-DSDK_15_4"] if form == "15.4" else []
    options = [*define, "-I", str(tmp_path), "-I", str(SDK / "c"), "-I", str(swift / "Modules")]
    compile_sdk(options, tmp_path)
    sources = tmp_path / "sources"
    sources.mkdir()
    command = [swift_tool("swiftc"), "-typecheck", "-swift-version", mode, "-parse-as-library", *options]
    output(*command, "-module-name", "Checked", *as_on(system, PACKAGES[package], sources))
