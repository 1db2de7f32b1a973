"""What a training minimises: the reinforced loss of a batch, or CLIP's loss beside one anchor per true caption."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.learning.reinforcement import Batch, PairDataset, Pairs, TrainingData
from mobileclip_deploy.learning.reinforcement.loss import TeacherBatch, reinforced_loss, soft_cross_entropy
from mobileclip_deploy.learning.training.recipe import AnchorSettings, Recipe
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.preprocessing import normalize

__all__ = ["AnchoredObjective", "Embedded", "Objective", "ReinforcedObjective", "Towers", "objective"]


@dataclass(frozen=True)
class Embedded:
    """What the towers say of a batch: unit embeddings of its images [B, D] and of the texts that an objective
    reads [C, D], and the factor of their cosines."""

    images: Tensor
    texts: Tensor
    scale: Tensor


class Towers(nn.Module):
    """A model as a training asks it: unit embeddings of images in [0, 1] and of ids, and the factor of their cosines.
    `autocast`: towers compute in bfloat16 where torch thinks it safe; weights and the rest stay float32."""

    def __init__(self, model: MobileCLIP, autocast: bool = False) -> None:
        super().__init__()
        self.model, self.autocast = model, autocast

    def forward(self, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        device = self.model.logit_scale.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            images = self.model.encode_image(normalize(pixels.to(device), self.model.variant.preprocess))
            texts = self.model.encode_text(ids.to(device))
        scale = self.model.logit_scale.exp()
        return F.normalize(images.to(scale.dtype), dim=1), F.normalize(texts.to(scale.dtype), dim=1), scale


class Objective(nn.Module, ABC):
    """The loss of a batch, and what is trained with the model only for the sake of it (`parameters()`)."""

    @abstractmethod
    def read(self, batch: Batch, rank: int = 0, count: int = 1) -> Tensor:
        """Token ids [C, L] of the texts that the text tower reads of a batch; of the share of one of `count`
        processes, which has every `count`th pair from number `rank` on."""

    @abstractmethod
    def loss(self, embedded: Embedded, batch: Batch) -> Tensor:
        """The loss, a scalar, of a whole batch, whose pixels it does not look at."""

    def forward(self, model: MobileCLIP, batch: Batch) -> Tensor:
        """The loss, a scalar."""
        return self.loss(Embedded(*Towers(model)(batch.pixels, self.read(batch))), batch)


def objective(recipe: Recipe, dataset: TrainingData, model: MobileCLIP) -> Objective:
    """What the recipe minimises. Anchors begin at random, or where a model that goes on has their captions."""
    if recipe.anchors is None:
        return ReinforcedObjective(dataset, recipe.distillation)
    if not isinstance(dataset, PairDataset):
        raise UsageError(f"{recipe.data} holds published shards, which anchors are not for; leave `anchors` out")
    anchored = AnchoredObjective(dataset.pairs, model.variant.embed_dim, recipe.anchors)
    if recipe.start is not None:
        anchored.place(model, dataset)
    return anchored


class ReinforcedObjective(Objective):
    """The reinforced loss, the sum over the true and the synthetic captions; CLIP's own where `weight` is 0."""

    def __init__(self, dataset: TrainingData, weight: float) -> None:
        super().__init__()
        self.scales, self.weight = [teacher.scale for teacher in dataset.teachers], weight

    def read(self, batch: Batch, rank: int = 0, count: int = 1) -> Tensor:
        return batch.ids.flatten(0, 1)

    def loss(self, embedded: Embedded, batch: Batch) -> Tensor:
        images, device = embedded.images, embedded.images.device
        count, captions = batch.ids.shape[:2]
        texts = embedded.texts.reshape(count, captions, -1)  # [B, T, D]
        total = images.new_zeros(())
        for number in range(captions):
            ids = batch.ids[:, number]
            same = (ids[:, None] == ids[None]).all(dim=2).to(device)  # [B, B]
            teachers = [
                TeacherBatch(image.to(device), text[:, number].to(device), theirs)
                for image, text, theirs in zip(batch.images, batch.texts, self.scales, strict=True)
            ]
            total = total + reinforced_loss(images, texts[:, number], embedded.scale, teachers, self.weight, same)
        return total


class AnchoredObjective(Objective):
    """CLIP's loss over the captions that are read, and both towers against a trained vector for each true caption.

    For data in which few captions have many images each: an image meets all K captions as negatives, though the text
    tower reads only some of the batch's. A caption is a positive of every image whose pair lists it ("cat" of a dozen).
    The anchors are dropped after training.
    """

    def __init__(self, pairs: Pairs, embed_dim: int, settings: AnchorSettings) -> None:
        super().__init__()
        self.settings = settings
        names = {name: number for number, name in enumerate(dict.fromkeys(row.texts[0] for row in pairs.rows))}
        self.concepts = torch.tensor([names[row.texts[0]] for row in pairs.rows])  # [N], a number below K
        owners: dict[str, set[int]] = {}
        for row in pairs.rows:
            for text in row.texts:
                owners.setdefault(text, set()).add(names[row.texts[0]])
        self.owners = [sorted(owners[text]) for row in pairs.rows for text in row.texts]
        self.weight = nn.Parameter(torch.randn(len(names), embed_dim) * 0.1)

    @torch.no_grad()
    def place(self, model: MobileCLIP, dataset: PairDataset) -> None:
        """Put the anchors where the model has the captions that they stand for."""
        mode = model.training
        first = dataset.first_caption[:-1]
        places = torch.empty(len(self.weight), dtype=torch.int64)
        places[self.concepts] = first  # any of a caption's pairs: the ids are the same
        ids = dataset.ids[places].to(model.logit_scale.device)
        embedded = torch.cat([model.eval().encode_text(part) for part in ids.split(256)])
        model.train(mode)
        self.weight.copy_(F.normalize(embedded, dim=1))

    def read(self, batch: Batch, rank: int = 0, count: int = 1) -> Tensor:
        read = torch.arange(rank, min(self.settings.captions, len(batch.rows) * count), count)
        return batch.ids[read // count, read % batch.ids.shape[1]]

    def loss(self, embedded: Embedded, batch: Batch) -> Tensor:
        images, texts = embedded.images, embedded.texts  # [B, D], [C, D]
        read = torch.arange(len(texts))
        column = read % batch.ids.shape[1]  # the true caption of one pair, the synthetic one of the next
        concepts = self.concepts[batch.rows.cpu()].to(images.device)  # [B]
        meaning = texts.new_zeros(len(read), len(self.weight))  # [C, K]: 1 where a caption is true of a concept
        for number, caption in enumerate(batch.captions[read, column].tolist()):
            meaning[number, self.owners[caption]] = 1
        pairs = meaning[:, concepts]  # [C, B]
        anchors, scale = F.normalize(self.weight, dim=1), embedded.scale
        smoothing = self.settings.label_smoothing
        loss = F.cross_entropy(scale * images @ anchors.T, concepts, label_smoothing=smoothing)
        loss = loss + soft_cross_entropy(scale * texts @ anchors.T, meaning, smoothing)
        logits, told = scale * texts @ images.T, pairs.any(dim=0)
        both = soft_cross_entropy(logits, pairs) + soft_cross_entropy(logits.T[told], pairs.T[told])
        return loss + 0.5 * both
