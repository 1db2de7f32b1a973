"""Training data from reinforced shards as Apple publishes them. Nothing is unpacked; every sample is read in place."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from mobileclip_deploy.base.files.tars import member_name, read_extent
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import REASON, InvalidInput, Malformed, reraising
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import Variant
from mobileclip_deploy.training.datacompdr import members
from mobileclip_deploy.training.datacompdr.joining import Joined, join
from mobileclip_deploy.training.datacompdr.randaugment import Augmentation, replay
from mobileclip_deploy.training.datacompdr.settings import PublishedTeacher, ShardSettings
from mobileclip_deploy.training.reinforcement.index import INDEX, read_index
from mobileclip_deploy.training.reinforcement.samples import Sample, TrainingData

_T = TypeVar("_T")

TRIES = 1000
DATACOMPDR = (PublishedTeacher(embed_dim=768, scale=100).entry(),) * 2
"""The teachers of DataCompDR: ViT-L/14 of OpenAI and of DataComp."""


@dataclass(frozen=True)
class Drawn:
    """A sample's index and random shares in [0, 1). The shares choose one of its augmentations, of its sets of
    synthetic captions and of the captions in that set. `mixed` decides whether the synthetic caption is used where
    captions are mixed. The number of choices is known only when the sample is read."""

    row: int
    view: float
    chosen_set: float
    caption: float
    mixed: float


@dataclass(frozen=True)
class Said:
    """A sample without its image: true caption, sets of synthetic ones and augmentations. With the embeddings [K, D] of
    the augmented images, [1, D] of the true caption and [C, D] of each set."""

    text: str
    synthetic: dict[str, tuple[str, ...]]
    augmentations: tuple[Augmentation, ...]
    images: Tensor
    true: Tensor
    sets: dict[str, Tensor]


class _Unusable(ValueError):
    """Error of an image that cannot be used: the sample is skipped and counted."""


class _OtherTeachers(ValueError):
    """Error of embeddings that are not of the recipe's teachers."""


class PublishedDataset(TrainingData):
    """Reinforced shards for a student: DataCompDR, DFNDR, or files of raygen or `reinforce --write datacompdr`.

    If an image cannot be decoded or is smaller than its crop, the next sample is taken. The sample then counts the
    samples that were passed over.

    Raises:
        InvalidInput: see `join`; the first sample is damaged, or its embeddings are not of the recipe's teachers.
    """

    def __init__(
        self, folder: Path, variant: Variant, settings: ShardSettings | None = None, progress: Progress = silent
    ) -> None:
        self.folder, self.variant = folder, variant
        self.settings = settings or ShardSettings()
        index = read_index(folder) if (folder / INDEX).is_file() else None
        if index is not None:
            index.require_complete(folder)
        self.teachers = DATACOMPDR if index is None else index.teachers
        if self.settings.teachers is not None:
            self.teachers = tuple(teacher.entry() for teacher in self.settings.teachers)
        self.dimensions = [teacher.embed_dim for teacher in self.teachers]
        self.joined: Joined = join(folder, self.settings.images, self.settings.skip_bad, progress)
        if not self.settings.skip_bad:
            self.said(0)  # refuses other teachers than the recipe's now, not at the first step

    @property
    def captioned(self) -> bool:
        return True

    @property
    def pairs_sha256(self) -> str:
        """SHA-256 of the shards' names and of the positions of all members in them."""
        digest = hashlib.sha256()
        for shard in self.joined.shards:
            digest.update(shard.relative_to(self.folder).as_posix().encode() + b"\0")
        digest.update(self.joined.rows.places.tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.joined)

    def choose(self, count: int, generator: torch.Generator) -> list[Drawn]:
        """Draws `count` samples at random, all different if there are enough."""
        total = len(self)
        if total > 64 * count:  # a permutation of millions for each batch would take longer than the batch
            distinct: dict[int, None] = {}
            while len(distinct) < count:
                distinct |= dict.fromkeys(torch.randint(total, (count,), generator=generator).tolist())
            rows = list(distinct)[:count]
        else:
            turns = -(-count // total)
            rows = torch.cat([torch.randperm(total, generator=generator) for _ in range(turns)])[:count].tolist()
        shares = torch.rand(count, 4, generator=generator, dtype=torch.float64).tolist()
        return [Drawn(row, *share) for row, share in zip(rows, shares, strict=True)]

    def __getitem__(self, choice: Drawn) -> Sample:
        tries, reason = min(TRIES, len(self)), ""
        for skipped in range(tries):
            row = (choice.row + skipped) % len(self)
            try:
                return self._sample(row, choice, skipped)
            except _Unusable as error:
                reason = str(error)
            except InvalidInput as error:
                if not self.settings.skip_bad:
                    raise
                reason = error.line
        raise InvalidInput(f"{self.folder}: none of {tries:,} samples in a row can be used, the last one: {reason}")

    def said(self, row: int) -> Said:
        """Reads a sample without its image.

        Raises:
            InvalidInput: damaged, or of other teachers or captions than the dataset has.
        """
        text = self._decoded(row, "text", members.text)
        synthetic = self._decoded(row, "synthetic", members.captions) if self.joined.where(row, "synthetic") else {}
        augmentations = self._decoded(row, "parameters", members.parameters)
        stored = self._decoded(row, "embeddings", lambda content: members.embeddings(content, self.joined.ending(row)))
        try:
            return self._matched(text, synthetic, augmentations, stored)
        except _OtherTeachers as error:
            extent = self.joined.where(row, "embeddings")
            assert extent is not None
            advice = "give each teacher's embedding size and scale with `teachers` under `datacompdr:` in the recipe"
            raise InvalidInput(f"{extent[0]}: {member_name(*extent)}: {error}; {advice}") from error
        except ValueError as error:
            raise self._refusal(row, "embeddings", error) from error

    def _matched(
        self,
        text: str,
        synthetic: dict[str, tuple[str, ...]],
        augmentations: tuple[Augmentation, ...],
        stored: dict[str, Tensor],
    ) -> Said:
        missing = [name for name in ("image_emb", "text_emb") if name not in stored]
        if missing:
            raise Malformed(f"no {missing[0]} next to {', '.join(stored) or 'nothing'}")
        images, texts = stored["image_emb"], stored["text_emb"]
        length = sum(self.dimensions)
        for name, value in stored.items():
            if value.shape[1] != length and (name in ("image_emb", "text_emb") or name.endswith("_emb")):
                listed = " + ".join(map(str, self.dimensions))
                raise _OtherTeachers(f"{name} has {value.shape[1]} values, but the teachers have {listed}")
        if len(images) != len(augmentations):
            raise Malformed(f"{len(augmentations)} augmentations, but image_emb has {len(images)} rows")
        # Rows after the true caption's are those of all sets; newer writers give each set its own array.
        sets = {}
        first = 1
        for key, listed_captions in synthetic.items():
            rows = texts[first : first + len(listed_captions)] if len(texts) > 1 else stored.get(f"{key}_emb")
            if rows is not None and len(rows) == len(listed_captions):
                sets[key] = rows
            first += len(listed_captions)
        unmatched = [
            key
            for key, listed in synthetic.items()
            if listed and key not in sets and re.match(self.settings.captions, key)
        ]
        if len(texts) < 1 or (len(texts) > 1 and len(texts) != first) or unmatched:
            raise Malformed(f"text_emb has {len(texts)} rows, but there are {first} captions")
        return Said(text, synthetic, augmentations, images, texts[:1], sets)

    def _sample(self, row: int, choice: Drawn, skipped: int) -> Sample:
        stored = self.said(row)
        view = int(choice.view * len(stored.augmentations))
        with reraising(REASON, ValueError, into=_Unusable):
            crop = replay(
                members.image(self._read(row, "image")), stored.augmentations[view], self.variant.preprocess.size
            )
        texts, rows = [stored.text], [stored.true[0]]
        keys = [key for key, listed in stored.synthetic.items() if listed and re.match(self.settings.captions, key)]
        if keys:
            key = keys[int(choice.chosen_set * len(keys))]
            caption = int(choice.caption * len(stored.synthetic[key]))
            texts.append(stored.synthetic[key][caption])
            rows.append(stored.sets[key][caption])
        if self.settings.mix_synthetic is not None:
            chosen = len(texts) - 1 if choice.mixed < self.settings.mix_synthetic else 0
            texts, rows = [texts[chosen]], [rows[chosen]]
        return Sample(
            row,
            crop,
            None,
            torch.full((len(texts),), -1),
            torch.from_numpy(encode(texts, self.variant.tokens)),
            tuple(stored.images[view].float().split(self.dimensions)),
            tuple(torch.stack(rows).float().split(self.dimensions, dim=1)),
            skipped,
        )

    def _read(self, row: int, part: str) -> bytes:
        extent = self.joined.where(row, part)
        assert extent is not None, part
        return read_extent(*extent, members.LIMIT)

    def _decoded(self, row: int, part: str, decode: Callable[[bytes], _T]) -> _T:
        try:
            return decode(self._read(row, part))
        except ValueError as error:
            raise self._refusal(row, part, error) from error

    def _refusal(self, row: int, part: str, error: ValueError) -> InvalidInput:
        extent = self.joined.where(row, part)
        assert extent is not None, part
        return members.refusal(extent[0], member_name(*extent), error)
