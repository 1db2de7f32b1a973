"""Writes the .pom and the .module of each jar of clients/ into its folder, as a Maven repository keeps them.

    python3 .github/scripts/write_maven.py FOLDER VERSION

`name_repository.py` fills in the owner and the repository. An app takes ONNX Runtime itself: on Android it is another
artifact than elsewhere.
"""

import hashlib
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

ADDRESS = "https://github.com/OWNER/REPOSITORY"
OWNER = ADDRESS.split("/")[3]
GROUP = f"io.github.{OWNER.lower()}"
CORE, ENGINE = (GROUP, "mobileclip"), (GROUP, "mobileclip-onnx")
KOTLIN = ("org.jetbrains.kotlin", "kotlin-stdlib")
KOTLIN_VERSION = "2.1.0"
"""Oldest library of the language version that clients/kotlin/build.sh names."""
JARS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "mobileclip": ("MobileCLIP bundles in Java 8 and Android: pixels, tokens and search as in Python", ()),
    "mobileclip-desktop": ("Pictures that javax.imageio reads", (CORE,)),
    "mobileclip-onnx": ("The engine on ONNX Runtime", (CORE,)),
    "mobileclip-kotlin": ("Default arguments, nulls and suspending functions", (CORE, ENGINE, KOTLIN)),
}
"""Description and dependencies of each jar."""
GRADLE = "do_not_remove: published-with-gradle-metadata"
"""Comment in a .pom by which Gradle reads the .module in its place."""


def pom(name: str, version: str) -> str:
    """Returns the .pom of a jar."""
    description, dependencies = JARS[name]
    project = ElementTree.Element("project", xmlns="http://maven.apache.org/POM/4.0.0")
    project.append(ElementTree.Comment(f" {GRADLE} "))
    texts = {"modelVersion": "4.0.0", "groupId": GROUP, "artifactId": name, "version": version, "name": name}
    for tag, text in (texts | {"description": description, "url": ADDRESS}).items():
        ElementTree.SubElement(project, tag).text = text
    licence = {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0.txt"}
    _nested(project, ("licenses", "license"), licence)
    _nested(project, ("developers", "developer"), {"id": OWNER, "url": f"https://github.com/{OWNER}"})
    _nested(project, ("scm",), {"connection": f"scm:git:{ADDRESS}.git", "url": ADDRESS})
    listed = ElementTree.SubElement(project, "dependencies") if dependencies else project
    for group, artifact in dependencies:
        _nested(listed, ("dependency",), {"groupId": group, "artifactId": artifact} | _version(group, version))
    ElementTree.indent(project)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(project, "unicode") + "\n"


def module(name: str, version: str, jar: Path) -> str:
    """Returns the .module of a jar, in version 1.1 of Gradle's module metadata."""
    content = jar.read_bytes()
    sums = {kind: hashlib.new(kind, content).hexdigest() for kind in ("sha512", "sha256", "sha1", "md5")}
    file = {"name": jar.name, "url": jar.name, "size": len(content)} | sums
    dependencies = [
        {"group": group, "module": artifact, "version": {"requires": _version(group, version)["version"]}}
        for group, artifact in JARS[name][1]
    ]
    shared = {
        "org.gradle.category": "library",
        "org.gradle.dependency.bundling": "external",
        "org.gradle.jvm.version": 8,
        "org.gradle.libraryelements": "jar",
    }
    variants = [
        {
            "name": f"{kind}Elements",
            "attributes": shared | {"org.gradle.usage": f"java-{kind}"},
            "dependencies": dependencies,
            "files": [file],
        }
        for kind in ("api", "runtime")
    ]
    component = {"group": GROUP, "module": name, "version": version, "attributes": {"org.gradle.status": "release"}}
    return json.dumps({"formatVersion": "1.1", "component": component, "variants": variants}, indent=2) + "\n"


def _version(group: str, version: str) -> dict[str, str]:
    return {"version": version if group == GROUP else KOTLIN_VERSION}


def _nested(parent: ElementTree.Element, tags: tuple[str, ...], texts: dict[str, str]) -> None:
    for tag in tags:
        parent = ElementTree.SubElement(parent, tag)
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = text


if __name__ == "__main__":
    folder, version = Path(sys.argv[1]), sys.argv[2]
    for name in JARS:
        jar = folder / f"{name}-{version}.jar"
        if jar.exists():  # the engine's and Kotlin's are built on one system alone
            jar.with_suffix(".pom").write_text(pom(name, version), encoding="utf-8")
            jar.with_suffix(".module").write_text(module(name, version, jar), encoding="utf-8")
