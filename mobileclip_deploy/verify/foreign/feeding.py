"""Runs of a foreign file on pictures and texts, in a convention of its inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.network.model.variants import TokenizerSpec
from mobileclip_deploy.verify.foreign.conventions import ImageConvention, Roles, TextConvention
from mobileclip_deploy.verify.foreign.opening import OpenedFile


@dataclass(frozen=True)
class Feeder:
    """An opened file, and conventions of all its inputs.

    Attributes:
        image, text: conventions of pictures and of texts; None for inputs that the file lacks.
        tokens: tokenizer of the checkpoint; None without a text tower.
    """

    file: OpenedFile
    roles: Roles
    image: ImageConvention | None
    text: TextConvention | None
    tokens: TokenizerSpec | None

    def run(self, pixels: Array, ids: Array) -> list[Array]:
        """Returns each output as vectors [N, ...], of pixels [N, 3, S, S] in [0, 1] and ids [N, L] of the tokenizer.

        Each row runs alone. A side of one row serves all rows of the other side.

        Raises:
            RuntimeFailed: the runtime refuses the convention.
        """
        count = max(len(pixels) if self.image else 0, len(ids) if self.text else 0)
        rows = [self._one(_row(pixels, index), _row(ids, index)) for index in range(count)]
        return [np.stack(each) for each in zip(*rows, strict=True)]

    def _one(self, pixels: Array, ids: Array) -> list[Array]:
        values: dict[int | None, Array] = {}  # those of an absent input have the key None
        if self.image is not None:
            values[self.roles.image] = self.image.values(pixels)
        if self.text is not None and self.tokens is not None:
            values[self.roles.ids], values[self.roles.mask] = self.text.values(ids, self.tokens)
            values[self.roles.positions] = np.arange(self.text.length)[None]
        fed, batch = [], 1
        for index, port in enumerate(self.file.inputs):
            value = values[index].astype(port.dtype)
            if value.ndim == len(port.shape) + 1:  # no batch
                value = value[0]
            elif port.shape[0] > 1 and value.shape[0] == 1:
                batch = port.shape[0]
                value = np.repeat(value, batch, axis=0)
            fed.append(value)
        results = self.file.call(fed)
        return [np.ravel(result[0] if result.ndim and len(result) == batch else result) for result in results]


def _row(values: Array, index: int) -> Array:
    return values[index : index + 1] if len(values) > 1 else values
