"""The package's imports and lines, counted from its sources: python tests/structure.py prints them.

A room is a folder of the first level. Imports inside functions and for types count, too.
"""

import ast
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = "mobileclip_deploy"
WINGS = ("search", "training", "benchmark", "web")
FORMATS = ("onnx", "coreml", "coreai", "executorch", "litert", "qnn", "mlx", "mil")
"""Folders of `targets` that belong to one format."""


@dataclass(frozen=True)
class Structure:
    """Sources of the package below `root`."""

    root: Path

    @cached_property
    def modules(self) -> Mapping[str, Path]:
        """Path of each module, by its dotted name."""
        found = {}
        for path in sorted((self.root / PACKAGE).rglob("*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return found

    @cached_property
    def imports(self) -> Mapping[str, frozenset[str]]:
        """Modules of the package that each module imports."""
        return {name: frozenset(self._imported(path)) - {name} for name, path in self.modules.items()}

    def _imported(self, path: Path) -> set[str]:
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    name = f"{node.module}.{alias.name}"
                    imported.add(name if name in self.modules else node.module)
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
        return imported & self.modules.keys()

    @cached_property
    def arrows(self) -> Counter[tuple[str, str]]:
        """Imports between rooms, counted by (importing room, imported room)."""
        counted: Counter[tuple[str, str]] = Counter()
        for name, imported in self.imports.items():
            for other in imported:
                ends = self._room(name), self._room(other)
                if None not in ends and ends[0] != ends[1]:
                    counted[ends] += 1  # type: ignore[index]
        return counted

    def _room(self, module: str) -> str | None:
        path = self.modules[module].relative_to(self.root / PACKAGE)
        return path.parts[0] if len(path.parts) > 1 else None

    @cached_property
    def circles(self) -> list[list[str]]:
        """Groups of modules that import each other (strongly connected components, Tarjan 1972)."""
        index: dict[str, int] = {}
        low: dict[str, int] = {}
        stack: list[str] = []
        circles = []

        def visit(name: str) -> None:
            index[name] = low[name] = len(index)
            stack.append(name)
            for other in sorted(self.imports[name]):
                if other not in index:
                    visit(other)
                if other in stack:
                    low[name] = min(low[name], low[other])
            if low[name] == index[name]:
                start = stack.index(name)
                circle = stack[start:]
                del stack[start:]
                if len(circle) > 1:
                    circles.append(sorted(circle))

        sys.setrecursionlimit(10_000)
        for name in self.modules:
            if name not in index:
                visit(name)
        return circles

    @cached_property
    def lines(self) -> Counter[str]:
        """Lines of each room; `package` for files outside of rooms."""
        counted: Counter[str] = Counter()
        for name, path in self.modules.items():
            counted[self._room(name) or "package"] += path.read_bytes().count(b"\n")
        return counted

    @property
    def core_lines(self) -> int:
        """Lines without the wings and without the formats of `targets`."""
        formats = tuple(f"{PACKAGE}.targets.{name}" for name in FORMATS)
        return sum(
            path.read_bytes().count(b"\n")
            for name, path in self.modules.items()
            if self._room(name) not in WINGS and not f"{name}.".startswith(tuple(f"{start}." for start in formats))
        )


if __name__ == "__main__":
    structure = Structure(Path(__file__).parents[1])
    for (importing, imported), count in sorted(structure.arrows.items()):
        print(f"{importing} -> {imported}: {count}")
    rooms = {room for arrow in structure.arrows for room in arrow}
    print(f"{len(rooms)} rooms, {len(structure.arrows)} arrows, {len(structure.circles)} circles of files")
    for room, lines in structure.lines.most_common():
        print(f"{lines:>6} {room}")
    print(f"{structure.lines.total()} lines, {structure.core_lines} of them in the core")
