"""What `inspect` tells of a Core ML package, in words and as JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from targets.mil.programs import build, ct, quiet

from mobileclip_deploy.cli import cli
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.verify.inspect.inspection import inspect as look


def told_of(path: Path) -> dict[str, Any]:
    return look(path).as_dict()


TABLE = np.linspace(-1, 1, 640, dtype=np.float16).reshape(80, 8)
PROJECTION = np.linspace(-1, 1, 4096, dtype=np.float16).reshape(512, 8)


def body(mb: Any, ids: Any) -> Any:
    rows = mb.gather(x=TABLE, indices=ids)
    known = mb.cast(x=mb.equal(x=ids, y=7), dtype="fp16")
    scaled = mb.mul(x=mb.linear(x=rows, weight=PROJECTION), y=mb.expand_dims(x=known, axes=[1]))
    return mb.cast(x=scaled, dtype="fp32")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("inspect") / "small.mlpackage", {"ids": ((3,), "int32")}, body)


def test_operations_weights_inputs_outputs_and_versions_are_told(package: Path) -> None:
    told = told_of(package)["functions"]["main"]
    assert told["by_type"] == {"cast": 2, "equal": 1, "expand_dims": 1, "gather": 1, "linear": 1, "mul": 1}
    assert told["operations"] == 7
    assert told["by_precision"] == {"float16": 5, "int32": 1, "float32": 1}
    whole = told["weights"]["const float16"]
    assert (whole["elements"], whole["bytes"]) == (640 + 4096 + 512, 2 * (640 + 4096 + 512))
    assert [(tensor["shape"], tensor["bits"]) for tensor in told["largest"]][:2] == [([512, 8], 16), ([80, 8], 16)]
    told = told_of(package)
    (source,), (result,) = told["functions"]["main"]["inputs"], told["functions"]["main"]["outputs"]
    assert (source["name"], source["dtype"], source["shape"]) == ("ids", "int32", [3])
    assert (result["dtype"], result["shape"]) == ("float32", [3, 512])
    assert (told["specification_version"], told["deployment_target"]) == (8, "iOS17")
    assert told["bytes"] >= told["functions"]["main"]["weight_bytes"]


def test_compressed_weights_are_told_with_their_bits(package: Path, tmp_path: Path) -> None:
    from coremltools.optimize import coreml as cto

    with quiet():
        model = ct.models.MLModel(str(package), skip_model_load=True)
        config = cto.OptimizationConfig(cto.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=2000))
        cto.palettize_weights(model, config).save(str(tmp_path / "small.mlpackage"))
    told = told_of(tmp_path / "small.mlpackage")["functions"]["main"]
    assert set(told["weights"]) == {"const float16", "constexpr_lut_to_dense"}
    (packed,) = [tensor for tensor in told["largest"] if tensor["kind"] == "constexpr_lut_to_dense"]
    assert 4 <= packed["bits"] < 4.2


def test_the_command_prints_tables_or_everything_as_json(package: Path) -> None:
    words = CliRunner().invoke(cli, ["inspect", str(package)])
    assert words.exit_code == 0, words.output
    for part in ("iOS17", "7 operations: cast 2", "largest tensors", "512 x 8"):
        assert part in words.output
    told = CliRunner().invoke(cli, ["inspect", str(package), "--json"])
    assert json.loads(told.output) == {"schema_version": 1} | told_of(package)


def test_a_damaged_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mlpackage").mkdir()
    with pytest.raises(InvalidInput):
        told_of(tmp_path / "empty.mlpackage")
