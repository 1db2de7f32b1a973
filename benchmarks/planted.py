"""All faults that the tests plant in artifacts, on all targets: how many are caught, and how many harmless edits pass.

    python benchmarks/planted.py                    # all seven targets; conversions are kept in build/tests
    python benchmarks/planted.py --targets mlx,qnn

Kinds are planted in the graph of every file of tests/faults/files.py, edits in the file itself; a fault is caught if
reading the file or comparing it with a sound one shows it. Prints a line for each target, and what was not caught.
Results are in benchmarks/results/planted.json; the exit code is 1 if a fault was missed or a harmless edit refused.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measuring import ROOT, Figures, markdown

KEPT = Figures("planted")
Outcome = tuple[str, bool, bool]
"""A name; True for a fault, False for a harmless edit; whether it was seen."""


def main() -> int:
    """Plant, print the table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default=",".join(PLANTS))
    wanted = parser.parse_args().targets.split(",")
    rows = [row for row in KEPT.rows() if row["target"] not in wanted]
    for target in wanted:
        with tempfile.TemporaryDirectory(prefix="planted-") as folder:
            outcomes = [*PLANTS[target](target, Path(folder))]
        faults, edits = ([one for one in outcomes if one[1] is fault] for fault in (True, False))
        row: dict[str, Any] = {"target": target, "planted": len(faults), "caught": sum(seen for *_, seen in faults)}
        row |= {"harmless": len(edits), "passed": sum(not seen for *_, seen in edits)}
        row["wrong"] = [name for name, fault, seen in outcomes if fault != seen]
        rows.append(row)
        print(*(f"{key}: {value}" for key, value in row.items()), sep=", ", flush=True)
        KEPT.write_rows(sorted(rows, key=lambda row: [*PLANTS].index(row["target"])))
    heads = ("target", ">faults planted", ">caught", ">harmless edits", ">passed")
    print("\n".join(markdown(heads, [[str(row[key]) for key in [*row][:5]] for row in KEPT.rows()])))
    return int(any(row["wrong"] for row in rows))


def of_graphs(target: str, folder: Path) -> Iterator[Outcome]:
    """Kinds in the graph of every file, and edits of the files themselves."""
    from conversions import Store
    from faults.files import FILES, Files
    from faults.graphs import PlantedGraph
    from faults.kinds import HARMLESS, KINDS
    from faults.test_kinds import missed
    from faults.test_reading import FORMATS, said

    from mobileclip_deploy.targets.graph import first_difference

    files = Files(Store.open(ROOT / "build" / "tests"))
    for _, tower, precision in (file for file in FILES if file[0] == target):
        for kind in KINDS:
            if kind.stands_in(target, tower, precision):
                yield f"{tower} {precision} {kind}", True, missed(files, target, tower, precision, kind) is None
        for name, edit in HARMLESS.items():
            planted = PlantedGraph(target, healthy := files.graph(target, tower, precision))
            edit(planted)
            yield f"{tower} {precision} {name}", False, first_difference(planted.done(), healthy) is not None
    for fault, edits in ((True, FORMATS[target].FAULTS), (False, FORMATS[target].HARMLESS)):
        for edit in edits:
            for file in edit.files:
                with tempfile.TemporaryDirectory(dir=folder) as own:  # a package is never written over another
                    text, named = said(files, target, file, edit, Path(own))
                yield f"{' '.join(file)} {edit}", fault, text is not None and (named is None or named in text)


def of_mlx(_: str, folder: Path) -> Iterator[Outcome]:
    """Changed functions, bytes of files, and files written again as they are."""
    from faults.edits import said_of
    from faults.test_mlx_faults import BYTES, REFUSED, SEEN
    from mlx_files import network, packed, write

    from mobileclip_deploy.network.model.variants import TowerName
    from mobileclip_deploy.targets.mlx.function_file import read_function
    from mobileclip_deploy.targets.mlx.opening import MlxArtifact

    towers: tuple[TowerName, ...] = ("image", "text")
    files = {tower: write(network(), tower, folder, "w4")["w4"] for tower in towers}
    graphs = {tower: MlxArtifact(path).graph for tower, path in files.items()}
    path = folder / "a.mlxfn"
    for name, (tower, edit) in SEEN.items():
        path.write_bytes(packed(edit(read_function(files[tower]))))
        yield name, True, said_of("mlx", path, graphs[tower]) is not None
    for name, (edit, reason) in REFUSED.items():
        path.write_bytes(packed(edit(read_function(files["image"]))))
        yield name, True, refused(lambda: MlxArtifact(path).runner(), reason)
    for name, (damage, reason) in BYTES.items():
        path.write_bytes(damage(files["image"].read_bytes()))
        yield name, True, refused(lambda: MlxArtifact(path).ports, reason)
    for own in towers:
        path.write_bytes(packed(read_function(files[own])))
        yield f"the {own} tower written again", False, said_of("mlx", path, graphs[own]) is not None


def of_qnn(_: str, folder: Path) -> Iterator[Outcome]:
    """Folders of binaries for two chips, and of two lengths; each is read."""
    import shutil

    from faults import test_qnn_faults as faults
    from qnn_files import network, write
    from tiny import filled

    from mobileclip_deploy.network.folding import fold
    from mobileclip_deploy.targets.qnn.opening import QnnArtifact

    later = filled("tiny_later")
    fold(later)
    sound = {
        "own": write(network(), "image", "v75,v79", folder / "own"),
        "lengths": write(later, "text", "v75,v79", folder / "lengths", contexts=(4, 8)),
    }
    for number, (name, table) in enumerate(faults.TABLES.items()):
        whole = QnnArtifact(sound[name])
        yield f"{name} as written", False, refused(lambda own=whole: own.ports, "")  # type: ignore[misc]
        for fault, (edit, reason) in table.items():
            path = folder / f"{number}" / sound[name].name
            shutil.copytree(sound[name], path)
            edit(path)
            yield fault, True, refused(lambda path=path: QnnArtifact(path).ports, reason)  # type: ignore[misc]
            shutil.rmtree(path)


def refused(read: Callable[[], object], reason: str) -> bool:
    """Whether a file is refused for this reason, in one line."""
    import re

    from mobileclip_deploy.errors import InvalidInput

    try:
        read()
    except InvalidInput as error:
        return re.search(reason, str(error)) is not None and "\n" not in error.line
    return False


PLANTS: dict[str, Callable[[str, Path], Iterator[Outcome]]] = {
    **dict.fromkeys(("onnx", "coreml", "coreai", "litert", "executorch"), of_graphs),
    "mlx": of_mlx,
    "qnn": of_qnn,
}

if __name__ == "__main__":
    sys.exit(main())
