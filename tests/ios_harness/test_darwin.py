"""What is compiled for Apple's systems alone, type-checked here against the declarations of their SDK that it uses: in
both forms of the SDK, and in both modes of Swift."""

import re
import subprocess
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


def sdk_options(form: str) -> list[str]:
    """Options of a compiler that sees an SDK in the form that it has before or from macOS 15.4 on."""
    define = ["-D", "SDK_15_4", "-Xcc", "-DSDK_15_4"] if form == "15.4" else []
    return [*define, "-I", str(SDK / "c")]


@pytest.mark.parametrize(
    ("form", "mode", "compiles"), [("before", "6", False), ("before", "5", True), ("15.4", "6", True)]
)
def test_the_forms_of_the_sdk_differ_as_apples_do(tmp_path: Path, form: str, mode: str, compiles: bool) -> None:
    """Swift 6 refuses the variable that the SDK of Xcode 16.0 to 16.2 does not call safe (apple/swift-system 373)."""
    source = tmp_path / "task.swift"
    source.write_text("import Darwin\nfunc task() -> mach_port_t { mach_task_self_ }\n", encoding="utf-8")
    command = [swift_tool("swiftc"), "-typecheck", "-swift-version", mode, *sdk_options(form), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode == 0) == compiles
    assert ("mach_task_self_' is not concurrency-safe" in done.stderr) != compiles


@pytest.mark.slow  # the harness itself is built in `make test`
@pytest.mark.parametrize(
    ("package", "system", "form", "mode"), [("harness", "iOS", "15.4", "6"), ("client", "macOS", "before", "5")]
)
def test_a_package_compiles_with_an_sdk(
    swift: Path, tmp_path: Path, package: str, system: str, form: str, mode: str
) -> None:
    options = [*sdk_options(form), "-I", str(tmp_path), "-I", str(swift / "Modules")]
    compile_sdk(options, tmp_path)
    sources = tmp_path / "sources"
    sources.mkdir()
    command = [swift_tool("swiftc"), "-typecheck", "-swift-version", mode, "-parse-as-library", *options]
    output(*command, "-module-name", "Checked", *as_on(system, PACKAGES[package], sources))
