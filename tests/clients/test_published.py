"""The packages' descriptions as registries read them: npm's package.json, Maven's .pom and Gradle's .module."""

import hashlib
import json
import re
import runpy
import sys
import zipfile
from pathlib import Path
from typing import Annotated, Literal
from xml.etree import ElementTree

import pytest
from building import ROOT
from programs import output
from pydantic import BaseModel, Field

SCRIPT = ROOT / ".github" / "scripts" / "write_maven.py"
JARS = ("mobileclip", "mobileclip-desktop", "mobileclip-onnx", "mobileclip-kotlin")
SPACE = "{http://maven.apache.org/POM/4.0.0}"

# Of maven-4.0.0.xsd, the elements that may be in each of those that are used here. Their order is free (xs:all).
ELEMENTS = {
    "project": "modelVersion parent groupId artifactId version packaging name description url inceptionYear "
    "organization licenses developers contributors mailingLists prerequisites modules scm issueManagement ciManagement "
    "distributionManagement properties dependencyManagement dependencies repositories pluginRepositories build reports "
    "reporting profiles",
    "licenses": "license",
    "license": "name url distribution comments",
    "developers": "developer",
    "developer": "id name email url organization organizationUrl roles timezone properties",
    "scm": "connection developerConnection tag url",
    "dependencies": "dependency",
    "dependency": "groupId artifactId version type classifier scope systemPath exclusions optional",
}
CENTRAL = {"groupId", "artifactId", "version", "name", "description", "url", "licenses", "developers", "scm"}
"""What Maven Central refuses a .pom without (central.sonatype.org/publish/requirements)."""


class Strict(BaseModel, extra="forbid", strict=True):
    """A part of a .module, as gradle/gradle's gradle-module-metadata-latest-specification.md (1.1) has it."""


class Version(Strict):
    requires: str


class Dependency(Strict):
    group: str
    module: str
    version: Version


class File(Strict):
    name: str
    url: str
    size: int
    sha1: Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    sha512: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class Variant(Strict):
    name: str
    attributes: Annotated[dict[str, str | bool | int], Field(min_length=1)]
    dependencies: list[Dependency]
    files: Annotated[list[File], Field(min_length=1)]


class Component(Strict):
    group: str
    module: str
    version: str
    attributes: dict[Literal["org.gradle.status"], Literal["release", "integration"]]


class Module(Strict):
    formatVersion: Literal["1.1"]
    component: Component
    variants: list[Variant]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of jars with what the script writes next to them."""
    folder = tmp_path_factory.mktemp("published")
    for name in JARS:
        with zipfile.ZipFile(folder / f"{name}-0.4.0.jar", "w") as jar:
            jar.writestr("name", name)
    output(sys.executable, SCRIPT, folder, "0.4.0")
    return folder


@pytest.mark.parametrize("name", JARS)
def test_a_pom_has_the_elements_of_maven_s_schema_and_those_that_central_needs(published: Path, name: str) -> None:
    text = (published / f"{name}-0.4.0.pom").read_text(encoding="utf-8")
    project = ElementTree.fromstring(text)
    assert project.tag == f"{SPACE}project"
    for parent in project.iter():
        tags = [child.tag.removeprefix(SPACE) for child in parent]
        assert set(tags) <= set(ELEMENTS.get(parent.tag.removeprefix(SPACE), "").split()), parent.tag
        assert parent.tag.endswith(("licenses", "developers", "dependencies")) or len(set(tags)) == len(tags)
    assert {child.tag.removeprefix(SPACE) for child in project} >= CENTRAL
    assert project.findtext(f"{SPACE}modelVersion") == "4.0.0"
    assert "<!-- do_not_remove: published-with-gradle-metadata -->" in text


@pytest.mark.parametrize("name", JARS)
def test_a_module_is_what_its_specification_says_and_names_what_the_pom_does(published: Path, name: str) -> None:
    text = (published / f"{name}-0.4.0.module").read_text(encoding="utf-8")
    module = Module.model_validate_json(text)
    assert next(iter(json.loads(text))) == "formatVersion"
    assert [variant.attributes["org.gradle.usage"] for variant in module.variants] == ["java-api", "java-runtime"]
    pom = ElementTree.fromstring((published / f"{name}-0.4.0.pom").read_text(encoding="utf-8"))
    named = [[pom.findtext(SPACE + tag) for tag in ("groupId", "artifactId", "version")]]
    named += [[child.text for child in dependency] for dependency in pom.iter(f"{SPACE}dependency")]
    jar = published / f"{name}-0.4.0.jar"
    own = module.component
    for variant in module.variants:
        told = [[one.group, one.module, one.version.requires] for one in variant.dependencies]
        assert [[own.group, own.module, own.version], *told] == named
        (file,) = variant.files
        assert (file.name, file.url, file.size) == (jar.name, jar.name, jar.stat().st_size)
        for kind in ("sha1", "sha256", "sha512", "md5"):
            assert getattr(file, kind) == hashlib.new(kind, jar.read_bytes()).hexdigest()


def test_npm_knows_the_repository_by_the_same_name_as_maven() -> None:
    package = json.loads((ROOT / "clients" / "js" / "package.json").read_text(encoding="utf-8"))
    url = f"git+{runpy.run_path(str(SCRIPT))['ADDRESS']}.git"
    assert package["repository"] == {"type": "git", "url": url, "directory": "clients/js"}


def test_the_sample_is_compiled_by_the_kotlin_and_onnx_runtime_that_are_fetched() -> None:
    kotlin = ROOT / "clients" / "kotlin"
    fetched, sample, build = (
        (kotlin / name).read_text(encoding="utf-8") for name in ("fetch.sh", "sample/build.gradle.kts", "build.sh")
    )
    (compiler,) = re.findall(r"of_npm kotlin-compiler@([\d.]+) ", fetched)
    (runtime,) = re.findall(r"AAR for\n# Android \(([\d.]+)\)", fetched)
    assert f'kotlin-gradle-plugin:{compiler}")' in sample
    assert f"onnxruntime-android:{runtime}." in sample
    (language,) = re.findall(r"-language-version ([\d.]+) ", build)
    assert f'KOTLIN_VERSION = "{language}.' in SCRIPT.read_text(encoding="utf-8")
