"""Golden checkpoints as Core ML packages: what they declare, what they weigh, what they compute as written.

Their weights are random, which amplifies rounding: figures below float32 are recorded, not gated (nano's are).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from coreml_packages import shared_conversions, specification, weight_file
from golden_checkpoints import GoldenCheckpoint
from torch import nn
from writing import chosen, job_of

from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.network.checkpoints.identity import identify
from mobileclip_deploy.network.checkpoints.loading import assemble
from mobileclip_deploy.network.embedding import embed_images
from mobileclip_deploy.network.folding import fold
from mobileclip_deploy.network.model.provenance import Provenance
from mobileclip_deploy.network.model.variants import TOWERS, TowerName, load_variant
from mobileclip_deploy.parity import compare
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import total_bytes

# To which precisions each is written. S1 and S2 are S0 with more and wider layers, the weights of MobileCLIP2 stand in
# the same network, and float16 is one pass over whatever the conversion gave: on the same kinds of blocks they show
# nothing new. docs/coreml.md has all, computed with MOBILECLIP_TEST_GOLDENS=all in the environment.
BOTH, COMPRESSED = ("fp32", "fp16"), ("fp32", "fp16", "w8", "w6p")
NAMES = ("mobileclip-s0.apple", "mobileclip-s1.apple", "mobileclip-s2.apple", "mobileclip-b.apple")
GOLDENS = dict.fromkeys(("mobileclip2-s0.openclip", *NAMES), BOTH) | {NAMES[0]: COMPRESSED}
if os.environ.get("MOBILECLIP_TEST_GOLDENS") != "all":
    GOLDENS = {NAMES[0]: ("fp32", "fp16", "w8")}
Record = Callable[[str, Any], None]
pytestmark = pytest.mark.slow
both_towers = pytest.mark.parametrize("tower", TOWERS)


@dataclass(frozen=True)
class Written:
    """The packages of a golden checkpoint, and what is to be computed from which inputs."""

    golden: GoldenCheckpoint
    towers: dict[TowerName, nn.Module]
    paths: dict[tuple[TowerName, str], Path]
    inputs: dict[TowerName, npt.NDArray[Any]]
    embeddings: dict[TowerName, npt.NDArray[np.float32]]

    def package(self, tower: TowerName) -> Path:
        """Package of a tower, in float16 where it is written in that."""
        return self.paths.get((tower, "fp16"), self.paths[tower, "fp32"])


@pytest.fixture(scope="module", params=GOLDENS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Each golden's packages, in turn.

    Text has the reference implementation's own answer. Core ML's images are bytes, which the golden images are not:
    they are rounded, and the unfolded network answers for them, which tests/golden shows to be the reference's.
    """
    golden = GoldenCheckpoint(request.param)
    model = assemble(identify(golden.file(), load_variant(golden.variant)))
    pixels = (np.rint(golden.images.numpy() * 255) / 255).astype(np.float32)
    wanted = {"image": embed_images(model, pixels), "text": golden.arrays["text_embeddings"].numpy()}
    fold(model)
    model.provenance = Provenance(
        variant=golden.variant,
        layout=golden.layout,
        sha256="0" * 64,
        file="golden",
        licence="Apple's",
        research_only=True,
    )
    folder = tmp_path_factory.mktemp(golden.name)
    paths = {(tower, one): folder / f"{tower}-{one}.mlpackage" for tower in TOWERS for one in GOLDENS[golden.name]}
    with shared_conversions():
        for (tower, precision), path in paths.items():
            get_target("coreml").write(job_of(model, tower, precision), path)
    inputs = {"image": pixels, "text": golden.tokens.numpy()}
    return Written(golden, {tower: make_tower(model, tower) for tower in TOWERS}, paths, inputs, wanted)


def test_the_towers_take_an_rgb_image_of_the_apps_size_and_int32_ids(written: Written) -> None:
    (source,) = specification(written.package("image")).description.input
    image = source.type.imageType
    assert source.name == "image"
    assert (image.width, image.height) == (written.golden.card["image_size"],) * 2
    assert image.ColorSpace.Name(image.colorSpace) == "RGB"
    assert image.WhichOneof("SizeFlexibility") is None
    (source,) = specification(written.package("text")).description.input
    array = source.type.multiArrayType
    assert source.name == "text"
    assert list(array.shape) == [1, 77]
    assert array.ArrayDataType.Name(array.dataType) == "INT32"
    assert array.WhichOneof("ShapeFlexibility") is None


@both_towers
def test_a_package_takes_the_bytes_that_its_bits_imply(written: Written, tower: TowerName) -> None:
    for precision in (one for where, one in written.paths if where == tower):
        module = written.towers[tower]
        storage = storage_of(chosen("coreml", deployment_target="iOS16"), tower, module, precision)
        size, _ = weight_file(written.paths[tower, precision])
        assert size == pytest.approx(total_bytes(module, storage), rel=0.02), precision


@both_towers
def test_it_is_an_ml_program_that_says_by_whom_and_under_which_licence(written: Written, tower: TowerName) -> None:
    model = specification(written.package(tower))
    about = model.description.metadata
    assert model.WhichOneof("Type") == "mlProgram"
    assert model.specificationVersion == 7  # iOS 16
    assert "mobileclip-deploy" in about.author
    assert about.license == "Apple's"
    assert about.versionString
    assert tower in about.shortDescription


@both_towers
def test_the_float32_twin_computes_what_the_reference_does(
    written: Written, tower: TowerName, record_property: Record
) -> None:
    run = get_target("coreml").open(written.paths[tower, "fp32"]).runner()  # as it was written
    found = compare(written.embeddings[tower], run(written.inputs[tower]))
    record_property(f"{written.golden.name} {tower} fp32", found.model_dump())
    assert found.relative <= written.golden.bound(tower), found
