"""Check of the names, dtypes and shapes of an artifact's input and output."""

from mobileclip_deploy.artifacts.bundle.manifest import TensorEntry
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.parity import Check
from mobileclip_deploy.verify.subject import TowerProof


def check_structure(tower: TowerProof) -> list[Check]:
    """Checks the names, dtypes and shapes in the file against those that apps expect."""
    entry = tower.entry
    try:
        declared, applied = tower.artifact.ports, tower.artifact.applied
    except InvalidInput as error:
        return [Check.failed("structure", tower.name, str(error))]
    actual = tuple(TensorEntry.of(info) for info in declared)
    if entry.pads_inside and actual[0].shape == (0, 0):  # `padding` checks that the file pads rows to the context
        actual = (actual[0].model_copy(update={"shape": entry.input.shape}), actual[1])
    wrong = [
        f"{which} is {_short(have)}, expected {_short(want)}"
        for which, have, want in zip(("input", "output"), actual, (entry.input, entry.output), strict=True)
        if (have.name, have.dtype, have.shape) != (want.name, want.dtype, want.shape)
        or have.colour not in (None, want.colour)  # ONNX has no field for colour
    ]
    layout = tower.subject.bundle.manifest.layout
    expected = None if layout is None or tower.name == "text" else layout.applied
    if applied != (None if expected is None else expected.model_dump_json()):
        wrong.append(f"the file undoes mean and std {applied}, the layout's are {expected}")
    sound = f"{_short(entry.input)} -> {_short(entry.output)}"
    return [Check.of_faults("structure", tower.name, wrong, sound)]


def _short(entry: TensorEntry) -> str:
    shape = ", ".join(str(size) if size else "N" for size in entry.shape)
    return f"{entry.name} {entry.colour or ''}{' ' if entry.colour else ''}{entry.dtype} [{shape}]"
