"""The Swift packages of this repository, built for this machine when their sources have changed.

`python tests/swift_package.py` builds what `make test` runs, and needs no Python package: the Makefile does so while
pip installs them.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from building import ROOT, files_digest, locked
from programs import output, tool

HARNESS = ROOT / "ios_harness"
CLIENT_FOLDER = ROOT / "clients" / "swift"
CLIENT_SOURCES = CLIENT_FOLDER / "Sources" / "MobileCLIPKit"


def swift_tool(name: str) -> str:
    """Path of `swift` or `swiftc`; where there is none the test is skipped, in CI it fails."""
    return tool(f"{name} is not installed; on Debian type: apt-get install swiftlang", name)


def compile_interfaces(sources: Path, modules: tuple[str, ...], into: Path) -> None:
    """What is known of Apple's modules, for sources that are type-checked against it; each may import those before."""
    command = [swift_tool("swiftc"), "-emit-module", "-parse-as-library", "-I", into]
    for name in modules:
        output(*command, "-module-name", name, sources / f"{name}.swift", "-o", into / f"{name}.swiftmodule")


@dataclass(frozen=True)
class SwiftPackage:
    """A package, and where its products go: outside of the sources.

    Attributes:
        folder: of its Package.swift.
        sources: folders that decide whether it is built again.
        name: of the folder in build/swift.
        with_tests: its programs are built with its tests, which need other options.
    """

    folder: Path
    sources: tuple[Path, ...]
    name: str
    with_tests: bool

    @property
    def options(self) -> list[str]:
        """What `swift build` and `swift test` are both called with."""
        return ["-c", "debug", "--package-path", str(self.folder), "--scratch-path", str(self._scratch)]

    @property
    def _scratch(self) -> Path:
        return ROOT / "build" / "swift" / self.name

    def built(self) -> Path:
        """The folder with its programs, whichever process comes first."""
        return self._build("tests" if self.with_tests else "programs")

    def _build(self, what: Literal["programs", "tests"]) -> Path:
        # An index and words for a debugger are a sixth of the work; on Linux tests are found by the index.
        how = {"programs": "--disable-index-store", "tests": "--build-tests"}[what]
        command = [swift_tool("swift"), "build", how, "-debug-info-format", "none", "-j", "2", *self.options]
        with locked(self._scratch / ".lock"):
            digest, seen = files_digest(*self.sources), self._scratch / f".{what}"
            if not seen.exists() or seen.read_text() != digest:
                with TemporaryDirectory() as folder:  # Swift leaves folders there
                    output(*command, env=os.environ | {"TMPDIR": folder})
                seen.write_text(digest)
        return self._scratch / "debug"

    def test(self, environment: dict[str, str] | None = None) -> str:
        """What its own tests print; they have to pass."""
        self._build("tests")
        command = [swift_tool("swift"), "test", "--skip-build", *self.options]
        return output(*command, env=os.environ | (environment or {}), errors="replace")


HARNESS_CORE = SwiftPackage(HARNESS / "HarnessCore", (HARNESS,), "tests", with_tests=False)
HASHING = HARNESS / "HarnessCore" / "Sources" / "PlainSHA256"
CLIENT = SwiftPackage(ROOT, (CLIENT_FOLDER, HASHING), "clients", with_tests=True)


def apple_client() -> Path:
    """The client's program with Core ML and Core AI, compiled against the harness's stand-ins for them."""
    harness, folder = HARNESS_CORE.built(), ROOT / "build" / "swift" / "apple"
    with locked(folder / ".lock"):
        digest, seen = files_digest(CLIENT_FOLDER, HARNESS), folder / ".sources"
        if not seen.exists() or seen.read_text() != digest:
            compiler = [swift_tool("swiftc"), "-swift-version", "6", "-warnings-as-errors", "-I", harness / "Modules"]
            library = [
                "-module-name",
                "MobileCLIPKit",
                "-emit-module-path",
                folder / "MobileCLIPKit.swiftmodule",
                "-wmo",
            ]
            library += ["-parse-as-library", "-emit-module", "-emit-object", "-o", folder / "MobileCLIPKit.o"]
            modules = ("CoreML", "CoreAI", "StandInScript", "PlainSHA256")
            stand_ins = [path for name in modules for path in harness.glob(f"{name}.build/*.o")]
            program = ["-I", folder, "-o", folder / "mobileclip-client", folder / "MobileCLIPKit.o", *stand_ins]
            for part in (
                [*library, *sorted(CLIENT_SOURCES.rglob("*.swift"))],
                [*program, CLIENT_FOLDER / "Sources/mobileclip-client/main.swift"],
            ):
                output(*compiler, *part)
            seen.write_text(digest)
    return folder / "mobileclip-client"


if __name__ == "__main__" and shutil.which("swift"):
    apple_client()
