"""The Swift sources: the package's own tests, the app and its project, which nothing here can build."""

import plistlib
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from pbxproj import XcodeProject
from programs import output
from swift_package import HARNESS, HARNESS_CORE, compile_interfaces, swift_tool

APP = HARNESS / "App"
PROJECT = APP / "MobileCLIPBench.xcodeproj"
FARM = HARNESS / "Farm"
FARM_PROJECT = FARM / "MobileCLIPFarm.xcodeproj"
STAND_INS = {"Sources/CoreAIStandIn", "Sources/CoreMLStandIn", "Sources/PlainSHA256", "Sources/StandInScript"}
"""Targets that are built on Linux alone, for the tests here: in one mode."""
CORE_TARGETS = (
    "Sources/HarnessCore",
    "Sources/document-exchange",
    "Sources/mobileclip-harness",
    "Tests/HarnessCoreTests",
)
APP_SOURCES = sorted((APP / "MobileCLIPBench").glob("*.swift"))


@pytest.mark.slow  # it builds them; the programs themselves are run in benchmark/ios
def test_the_packages_own_tests_pass() -> None:
    HARNESS_CORE.test()


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("target", CORE_TARGETS)
def test_every_target_passes_in_the_mode_that_it_is_not_built_in(swift: Path, target: str) -> None:
    """The mode of an app's project that takes a target is not ours to choose. The app itself is checked below."""
    sources = sorted((HARNESS / "HarnessCore" / target).rglob("*.swift"))
    assert sources
    command = [swift_tool("swiftc"), "-typecheck", "-swift-version", "5", "-module-name", "Checked"]
    output(*command, "-I", swift / "Modules", *sources)


def test_the_manifests_name_the_modes_that_are_checked() -> None:
    core = HARNESS / "HarnessCore"
    assert "swiftLanguageModes: [.v6, .v5]" in (core / "Package.swift").read_text(encoding="utf-8")
    folders = {str(path.relative_to(core)) for kind in ("Sources", "Tests") for path in (core / kind).iterdir()}
    assert folders == {*CORE_TARGETS, *STAND_INS}


def test_the_apps_sources_pass_the_parser() -> None:
    output(swift_tool("swiftc"), "-frontend", "-parse", *APP_SOURCES)


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("mode", ["6", "5"])
def test_the_app_fits_harness_core(swift: Path, tmp_path: Path, mode: str) -> None:
    """Type-checked against HarnessCore as it is built, and against what the app uses of UIKit and SwiftUI."""
    compile_interfaces(Path(__file__).with_name("apple_interfaces"), ("UIKit", "SwiftUI", "XCTest"), tmp_path)
    command = [swift_tool("swiftc"), "-typecheck", "-swift-version", mode, "-parse-as-library", "-warnings-as-errors"]
    modules = ["-I", swift / "Modules", "-I", tmp_path]
    for sources in (APP_SOURCES, [FARM / "FarmTests" / "FarmTests.swift"]):
        output(*command, *modules, *sources)


@pytest.fixture(scope="module")
def project() -> XcodeProject:
    return XcodeProject.load(str(PROJECT / "project.pbxproj"))


def scheme_references(project: Path) -> set[str | None]:
    """The targets that a project's scheme builds."""
    scheme = ElementTree.parse(project / "xcshareddata" / "xcschemes" / f"{project.stem}.xcscheme")
    return {entry.get("BlueprintIdentifier") for entry in scheme.iter("BuildableReference")}


def test_the_project_takes_every_file_of_its_folder_and_its_scheme_builds_the_target(project: XcodeProject) -> None:
    (group,) = project.objects.get_objects_in_section("PBXFileSystemSynchronizedRootGroup")
    assert (APP / group.path).is_dir()
    assert sorted(path.suffix for path in (APP / group.path).iterdir()) == [".swift"] * 3
    (target,) = project.objects.get_objects_in_section("PBXNativeTarget")
    assert list(target.fileSystemSynchronizedGroups) == [group.get_id()]
    assert scheme_references(PROJECT) == {target.get_id()}


@pytest.mark.parametrize("folder", [PROJECT, FARM_PROJECT], ids=["app", "farm"])
def test_every_reference_in_a_project_is_to_something(folder: Path) -> None:
    file = folder / "project.pbxproj"
    known = set(XcodeProject.load(str(file)).objects.get_keys())
    assert set(re.findall(r"4D4342[0-9A-F]{18}", file.read_text(encoding="utf-8"))) == known


def test_the_project_uses_the_package_beside_it_and_leaves_signing_to_whoever_builds(project: XcodeProject) -> None:
    (reference,) = project.objects.get_objects_in_section("XCLocalSwiftPackageReference")
    assert (APP / reference.relativePath).resolve() == HARNESS / "HarnessCore"
    (product,) = project.objects.get_objects_in_section("XCSwiftPackageProductDependency")
    manifest = (HARNESS / "HarnessCore" / "Package.swift").read_text(encoding="utf-8")
    assert f'.library(name: "{product.productName}"' in manifest
    for configuration in project.objects.get_objects_in_section("XCBuildConfiguration"):
        team = configuration.buildSettings["DEVELOPMENT_TEAM"]
        assert team in (None, "", '""')


def test_the_farms_project_tests_the_app_with_the_jobs_in_its_folder() -> None:
    project = XcodeProject.load(str(FARM_PROJECT / "project.pbxproj"))
    app, tests = project.objects.get_objects_in_section("PBXNativeTarget")
    assert (app.name, tests.productType) == ("MobileCLIPBench", "com.apple.product-type.bundle.unit-test")
    (dependency,) = project.objects.get_objects_in_section("PBXTargetDependency")
    assert list(tests.dependencies) == [dependency.get_id()]
    assert dependency.target == app.get_id()
    groups = project.objects.get_objects_in_section("PBXFileSystemSynchronizedRootGroup")
    assert [(FARM / group.path).resolve() for group in groups] == [APP / "MobileCLIPBench", FARM / "FarmTests"]
    (folder,) = [one for one in project.objects.get_objects_in_section("PBXFileReference") if one.path == "job"]
    assert folder.lastKnownFileType == "folder"
    assert scheme_references(FARM_PROJECT) == {app.get_id(), tests.get_id()}


def test_the_files_app_shows_the_documents() -> None:
    keys = plistlib.loads((APP / "Info.plist").read_bytes())
    assert (keys["LSSupportsOpeningDocumentsInPlace"], keys["UIFileSharingEnabled"]) == (True, True)
