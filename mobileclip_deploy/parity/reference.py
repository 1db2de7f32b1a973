"""The reference: inputs and the checkpoint's embeddings of them; a bundle stores it as golden.safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.json_text import parse_json
from mobileclip_deploy.base.files.tensors import Arrays, read_tensors, write_tensors
from mobileclip_deploy.errors import REASON, InvalidInput, Malformed, reraising
from mobileclip_deploy.network.inputs import Inputs
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity.metrics import spread

# Spread below which a tower has collapsed: cosines between different inputs are above 0.9999. Trained networks have
# spreads of 0.5 and more, the random fillings of tests/golden 0.13 and more.
COLLAPSED = 0.01
PROBABILITIES = "image_probabilities"


@dataclass(frozen=True)
class Reference:
    """Inputs and the checkpoint's embeddings of them per tower, [N, D], or tokens [N, T, D].

    The embeddings are computed in float64 and rounded to float32: the same on every machine.

    Attributes:
        floor: per tower, the relative deviation of the checkpoint's own float32 arithmetic from them, worst over the
            inputs; empty if read from a file.
        folded: True if a folded checkpoint computed them; folding itself then has no reference.
        probabilities: expected probabilities of a classifier of fixed labels for the images, [N, L]. None without
            labels.
    """

    inputs: Inputs
    embeddings: dict[TowerName, npt.NDArray[np.float32]]
    folded: bool
    floor: Mapping[TowerName, float] = field(default_factory=dict)
    probabilities: npt.NDArray[np.float32] | None = None

    def of(self, tower: TowerName) -> npt.NDArray[np.float32]:
        """Returns the reference embeddings of one tower.

        Raises:
            InvalidInput: it has none.
        """
        if tower not in self.embeddings:
            raise InvalidInput(f"there are no reference embeddings of the {tower} tower; export the bundle again")
        return self.embeddings[tower]

    def some(self, tower: TowerName, rows: npt.NDArray[np.intp]) -> Reference:
        """Returns the reference with only these inputs of one tower, by index."""
        embeddings = self.embeddings | {tower: self.of(tower)[rows]}
        return replace(self, inputs=self.inputs.some(tower, rows), embeddings=embeddings)

    def collapsed(self, tower: TowerName) -> str | None:
        """Returns a warning about a tower whose embeddings of different inputs hardly differ. None if they differ."""
        differing, inputs = spread(self.of(tower)), self.inputs.of(tower)
        several = len(np.unique(inputs.reshape(len(inputs), -1), axis=0))
        if several < 2 or not differing < COLLAPSED:
            return None
        what = "images" if tower == "image" else "texts"
        return (
            f"The {tower} tower of the checkpoint itself has collapsed: its embeddings of {several} different {what} "
            f"differ by {differing:.1g} of their length. It can hardly distinguish them, at any precision."
        )

    def save(self, path: Path) -> None:
        """Writes the reference as safetensors.

        Tensors: `pixels` uint8 [N, 3, S, S] (divide by 255), `ids` int32 [M, L], `image_embeddings` and
        `text_embeddings` float32, and `image_probabilities` float32 of a classifier. Names, prompts and `folded` are in
        the metadata.
        """
        tensors: Arrays = {
            # Exact: the pixels came from bytes, and the file is a quarter of the size.
            "pixels": np.rint(self.inputs.pixels * 255).astype(np.uint8),
            "ids": self.inputs.ids.astype(np.int32),
        }
        tensors |= {f"{tower}_embeddings": values for tower, values in self.embeddings.items()}
        if self.probabilities is not None:
            tensors[PROBABILITIES] = self.probabilities
        metadata = {"images": self.inputs.images, "prompts": self.inputs.prompts, "folded": self.folded}
        write_tensors(path, tensors, {key: json.dumps(value) for key, value in metadata.items()})

    def _check(self) -> None:
        for tower, values in self.embeddings.items():
            if values.ndim < 2 or len(values) != len(self.inputs.of(tower)) or not len(values):
                raise Malformed(f"{tower} embeddings of shape {list(values.shape)} do not match its inputs")
        if self.probabilities is not None and self.probabilities.shape[:-1] != (len(self.inputs.pixels),):
            raise Malformed(f"probabilities of shape {list(self.probabilities.shape)} do not match its images")

    @classmethod
    def read(cls, path: Path) -> Reference:
        """Reads a file that `save` wrote.

        Raises:
            InvalidInput: missing, damaged or of another format.
        """
        tensors, texts = read_tensors(path, f"{path} is missing or damaged: {REASON}")
        with reraising(f"{path} is missing or damaged", KeyError, ValueError, TypeError, RecursionError):
            metadata = {key: parse_json(value) for key, value in texts.items()}
            inputs = Inputs(
                images=tuple(metadata["images"]),
                prompts=tuple(metadata["prompts"]),
                pixels=tensors["pixels"].astype(np.float32) / np.float32(255),
                ids=tensors["ids"].astype(np.int64),
            )
            embeddings = {tower: tensors[f"{tower}_embeddings"] for tower in TOWERS if f"{tower}_embeddings" in tensors}
            reference = cls(inputs, embeddings, bool(metadata["folded"]), probabilities=tensors.get(PROBABILITIES))
            reference._check()
            return reference
