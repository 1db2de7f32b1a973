"""Class names without duplicates: one per line, or by folder name as ImageNet's synsets are listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.prompts import labels_fault
from mobileclip_deploy.pictures.text_files import BadRows, parse_json, read_lines, read_text


@dataclass(frozen=True)
class ClassNames:
    """Class names without duplicates. `positions` has the index in `names` for each line of the file (or each
    folder)."""

    source: str
    names: tuple[str, ...]
    positions: tuple[int, ...]

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.names)}

    @classmethod
    def of(cls, source: str, named: Sequence[tuple[str, str]], bad: BadRows) -> ClassNames:
        """Makes class names from pairs of a location, for messages, and a name.

        A repeated name is a bad row. If such rows are skipped, its images count for the first class of that name, since
        their prompts are equal.

        Raises:
            InvalidInput: no name, one twice, or too many or too long ones.
        """
        index: dict[str, int] = {}
        first: dict[str, str] = {}
        positions = []
        for where, name in named:
            if name in index:
                bad.add(f"{where}: the class {name!r} is also at {first[name]}")
            else:
                index[name], first[name] = len(index), where
            positions.append(index[name])
        if not index:
            raise InvalidInput(f"{source} must name at least one class")
        if (fault := labels_fault(tuple(index))) is not None:
            raise InvalidInput(f"{source}: {fault}")
        return cls(source, tuple(index), tuple(positions))

    def find(self, label: str) -> int | None:
        """Returns the index of a label: a name, or else a line's number, counted from 0. None if it is neither."""
        if label in self._index:
            return self._index[label]
        # Nine digits are more than any list has lines, and int() refuses thousands of them.
        line = int(label) if label.isascii() and label.isdigit() and len(label) < 10 else len(self.positions)
        return self.positions[line] if line < len(self.positions) else None


def refuse_numbers(source: str, names: Sequence[str]) -> None:
    """Refuses class labels that are numbers and that no file of class names explains: "a photo of a 0" means nothing.

    Raises:
        InvalidInput: all of them are numbers.
    """
    if names and all(name.isascii() and name.isdigit() for name in names):
        raise InvalidInput(
            f"{source}: its labels are numbers ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}), which are "
            "meaningless in a prompt; name the classes with `class_names`, a file with a line for each"
        )


def read_class_names(path: Path, bad: BadRows) -> ClassNames:
    """Reads class names from a text file with one name per line, or from a JSON list of names.

    Raises:
        InvalidInput: it cannot be read, has no name, or has one twice.
    """
    if path.suffix.lower() == ".json":
        value = parse_json(path, read_text(path))
        if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() for name in value):
            raise InvalidInput(f"{path} is not a JSON list of class names")
        return ClassNames.of(str(path), [(f"{path}[{i}]", name.strip()) for i, name in enumerate(value)], bad)
    return ClassNames.of(str(path), _numbered(path), bad)


def names_of_folders(path: Path, folders: Sequence[str], bad: BadRows) -> ClassNames:
    """Reads the names of class folders from a file in one of three forms.

    The forms are lines `FOLDER NAME` (`n01440764 tench, Tinca tinca`; the first synonym counts); one line per folder,
    in the folders' sorted order; and JSON, `{"FOLDER": "NAME"}` or torchvision's `{"0": ["FOLDER", "NAME"]}`.

    Raises:
        InvalidInput: it cannot be read, does not name every folder, or names one class twice.
    """
    if path.suffix.lower() == ".json":
        table = _json_table(path)
    else:
        lines = read_lines(path, BadRows(skip=False))
        lines_by_folder = {line.split(maxsplit=1)[0]: (f"{path}:{number}", line) for number, line in lines}
        if not set(folders) & set(lines_by_folder):
            if len(lines) != len(folders):
                raise InvalidInput(
                    f"{path} has {len(lines)} lines and there are {len(folders)} class folders; write a line for each "
                    f"folder in sorted order, or lines of folder and name ({folders[0]} NAME)"
                )
            return ClassNames.of(str(path), _numbered(path), bad)
        _check_once(path, [line.split(maxsplit=1)[0] for _, line in lines], folders)
        table = {}
        for folder, (where, line) in lines_by_folder.items():
            name = line.split(maxsplit=1)[1:]
            table[folder] = where, name[0].split(",")[0].strip() if name else ""
    lacking = next((folder for folder in folders if not table.get(folder, ("", ""))[1]), None)
    if lacking is not None:
        raise InvalidInput(f"{path} has no name for the class folder {lacking}; add the line '{lacking} NAME'")
    return ClassNames.of(str(path), [table[folder] for folder in folders], bad)


def _json_table(path: Path) -> dict[str, tuple[str, str]]:
    value = parse_json(path, read_text(path))
    entries = value.items() if isinstance(value, dict) else []
    pairs = [tuple(item) if isinstance(item, list) else (key, item) for key, item in entries]
    if not pairs or not all(len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs):
        raise InvalidInput(f'{path}: write {{"FOLDER": "NAME", ...}}')
    _check_once(path, [folder for folder, _ in pairs], [folder for folder, _ in pairs])
    return {folder: (f"{path} ({folder})", name.strip()) for folder, name in pairs}


def _check_once(path: Path, named: Sequence[str], folders: Sequence[str]) -> None:
    times = Counter(named)
    double = next((folder for folder in folders if times[folder] > 1), None)
    if double is not None:
        raise InvalidInput(f"{path} names the class folder {double} twice; leave one out")


def _numbered(path: Path) -> list[tuple[str, str]]:
    # No line is skipped here: that would shift the indices of the lines after it.
    return [(f"{path}:{number}", line.strip()) for number, line in read_lines(path, BadRows(skip=False))]
