"""Objectives of a training. One is the loss of multi-modal reinforced training (MobileCLIP, arXiv 2311.17049, section
3.3). The other is CLIP's loss plus a loss against one anchor per true caption."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.evaluation.pairs import Pairs
from mobileclip_deploy.network.embedding import normalize
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.training.reinforcement.samples import Batch, PairDataset, TrainingData
from mobileclip_deploy.training.trainer.recipe import AnchorSettings, Recipe


@dataclass(frozen=True)
class TeacherBatch:
    """Answers of one teacher for a batch: unit embeddings [B, D'] of images and texts, with D' of the teacher. `scale`
    is the factor of its cosines, the inverse of its temperature."""

    images: Tensor
    texts: Tensor
    scale: float


def clip_loss(images: Tensor, texts: Tensor, scale: Tensor, positives: Tensor | None = None) -> Tensor:
    """Returns CLIP's loss: the mean of the cross-entropies of images against texts and of texts against images.

    Args:
        images, texts: unit embeddings [B, D], pair by pair.
        scale: the factor of the cosines.
        positives: [B, B] nonzero where image i and text j belong together, for batches that repeat a caption; the
            diagonal when None.
    """
    logits = scale * images @ texts.T
    expected = torch.eye(len(images), dtype=logits.dtype, device=logits.device)
    if positives is not None:
        expected = positives.to(logits.dtype)
    return 0.5 * (soft_cross_entropy(logits, expected) + soft_cross_entropy(logits.T, expected.T))


def distillation_loss(images: Tensor, texts: Tensor, scale: Tensor, teachers: Sequence[TeacherBatch]) -> Tensor:
    """Returns half of KL(teacher || student) of each image's softmax over texts, plus half of that of each text's
    softmax over images. It is averaged over the batch and over teachers, each at its own temperature.

    Args:
        images, texts: the student's unit embeddings [B, D].
        scale: the student's factor of the cosines.
        teachers: at least one.
    """
    logits = scale * images @ texts.T
    total = logits.new_zeros(())
    for teacher in teachers:
        theirs = (teacher.scale * teacher.images @ teacher.texts.T).to(logits.dtype)
        total = total + 0.5 * (_divergence(theirs, logits) + _divergence(theirs.T, logits.T))
    return total / len(teachers)


def reinforced_loss(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    teachers: Sequence[TeacherBatch],
    weight: float,
    positives: Tensor | None = None,
) -> Tensor:
    """Returns (1 - weight) CLIP's loss + weight distillation, for one set of captions; see the two functions above.

    The paper adds this for the true and for a synthetic caption of each image.
    """
    loss = images.new_zeros(())
    if weight < 1:
        loss = loss + (1 - weight) * clip_loss(images, texts, scale, positives)
    if weight > 0:
        loss = loss + weight * distillation_loss(images, texts, scale, teachers)
    return loss


def soft_cross_entropy(logits: Tensor, positives: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Returns the cross-entropy of logits [R, C] against the uniform distribution over each row's positives (0 or 1,
    [R, C])."""
    return F.cross_entropy(logits, positives / positives.sum(1, keepdim=True), label_smoothing=label_smoothing)


def _divergence(theirs: Tensor, ours: Tensor) -> Tensor:
    """Returns KL(softmax(theirs) || softmax(ours)) of each row, mean over rows."""
    return F.kl_div(F.log_softmax(ours, 1), F.log_softmax(theirs, 1), reduction="batchmean", log_target=True)


class Embedded(NamedTuple):
    """Unit embeddings of a batch: its images [B, D] and the texts that an objective reads [C, D]. `scale` is the factor
    of their cosines."""

    images: Tensor
    texts: Tensor
    scale: Tensor


class Towers(nn.Module):
    """A model that returns unit embeddings of images in [0, 1] and of ids, and the factor of their cosines. `autocast`:
    towers compute in bfloat16 where torch considers it safe; weights and the rest stay float32."""

    def __init__(self, model: MobileCLIP, autocast: bool = False) -> None:
        super().__init__()
        self.model, self.autocast = model, autocast

    def forward(self, pixels: Tensor, ids: Tensor) -> Embedded:
        device = self.model.logit_scale.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            images = self.model.encode_image(normalize(pixels.to(device), self.model.variant.preprocess))
            texts = self.model.encode_text(ids.to(device))
        scale = self.model.logit_scale.exp()
        return Embedded(F.normalize(images.to(scale.dtype), dim=1), F.normalize(texts.to(scale.dtype), dim=1), scale)


class Objective(nn.Module, ABC):
    """The loss of a batch, and parameters that are trained with the model only for the sake of it (`parameters()`)."""

    @abstractmethod
    def read(self, batch: Batch, rank: int = 0, count: int = 1) -> Tensor:
        """Returns token ids [C, L] of the batch's texts that the text tower reads. With several processes the batch is
        the share of process `rank`: every `count`th pair, beginning with index `rank`."""

    @abstractmethod
    def loss(self, embedded: Embedded, batch: Batch) -> Tensor:
        """Returns the loss of a whole batch, a scalar. Does not read the batch's pixels."""


def objective(recipe: Recipe, dataset: TrainingData, model: MobileCLIP) -> Objective:
    """Returns the recipe's objective. Anchors begin at random; with a `start` checkpoint, at its embeddings of their
    captions."""
    if recipe.anchors is None:
        return ReinforcedObjective(dataset, recipe.distillation)
    if not isinstance(dataset, PairDataset):
        raise UsageError(f"{recipe.data} has published shards, which do not support anchors; leave `anchors` out")
    anchored = AnchoredObjective(dataset.pairs, model.variant.embed_dim, recipe.anchors)
    if recipe.start is not None:
        anchored.place(model, dataset)
    return anchored


class ReinforcedObjective(Objective):
    """The reinforced loss, summed over the true and the synthetic captions; CLIP's own where `weight` is 0."""

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
        for column in range(captions):
            ids = batch.ids[:, column]
            same = (ids[:, None] == ids[None]).all(dim=2).to(device)  # [B, B]
            teachers = [
                TeacherBatch(image.to(device), text[:, column].to(device), theirs)
                for image, text, theirs in zip(batch.images, batch.texts, self.scales, strict=True)
            ]
            total = total + reinforced_loss(images, texts[:, column], embedded.scale, teachers, self.weight, same)
        return total


class AnchoredObjective(Objective):
    """CLIP's loss over the captions that are read, and both towers against a trained vector for each true caption.

    Made for data in which few captions have many images each. An image meets all K captions as negatives, though the
    text tower reads only some of the batch's. A caption is a positive of every image whose pair lists it ("cat" of a
    dozen). The anchors are dropped after training.
    """

    def __init__(self, pairs: Pairs, embed_dim: int, settings: AnchorSettings) -> None:
        super().__init__()
        self.settings = settings
        names = {name: index for index, name in enumerate(dict.fromkeys(row.texts[0] for row in pairs.rows))}
        self.concepts = torch.tensor([names[row.texts[0]] for row in pairs.rows])  # [N], an index below K
        owners: dict[str, set[int]] = {}
        for row in pairs.rows:
            for text in row.texts:
                owners.setdefault(text, set()).add(names[row.texts[0]])
        self.owners = [sorted(owners[text]) for row in pairs.rows for text in row.texts]
        self.weight = nn.Parameter(torch.randn(len(names), embed_dim) * 0.1)

    @torch.no_grad()
    def place(self, model: MobileCLIP, dataset: PairDataset) -> None:
        """Sets the anchors to the model's embeddings of their captions."""
        mode = model.training
        first = dataset.first_caption[:-1]
        indices = torch.empty(len(self.weight), dtype=torch.int64)
        indices[self.concepts] = first  # any of a caption's pairs: the ids are the same
        ids = dataset.ids[indices].to(model.logit_scale.device)
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
        for index, caption in enumerate(batch.captions[read, column].tolist()):
            meaning[index, self.owners[caption]] = 1
        pairs = meaning[:, concepts]  # [C, B]
        anchors, scale = F.normalize(self.weight, dim=1), embedded.scale
        smoothing = self.settings.label_smoothing
        loss = F.cross_entropy(scale * images @ anchors.T, concepts, label_smoothing=smoothing)
        loss = loss + soft_cross_entropy(scale * texts @ anchors.T, meaning, smoothing)
        logits, captioned = scale * texts @ images.T, pairs.any(dim=0)
        both = soft_cross_entropy(logits, pairs) + soft_cross_entropy(logits.T[captioned], pairs.T[captioned])
        return loss + 0.5 * both
