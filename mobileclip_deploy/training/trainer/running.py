"""Training of both towers on image-text pairs, loaded by torch's DataLoader."""

import contextlib
import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from mobileclip_deploy.base.files import write_whole
from mobileclip_deploy.base.interpreter import safe_children
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset, read_dataset
from mobileclip_deploy.evaluation.evaluate import measure
from mobileclip_deploy.evaluation.pairs import Pairs, check_pairs, pairs_of, read_pairs
from mobileclip_deploy.network.model.architecture import LARGEST_LOGIT_FACTOR, MobileCLIP
from mobileclip_deploy.network.model.variants import Variant, load_variant
from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder
from mobileclip_deploy.training.datacompdr.dataset import PublishedDataset
from mobileclip_deploy.training.datacompdr.joining import shard_files
from mobileclip_deploy.training.reinforcement.index import INDEX, OURS, read_index
from mobileclip_deploy.training.reinforcement.policy import AugmentationPolicy
from mobileclip_deploy.training.reinforcement.samples import (
    Batch,
    PlainDataset,
    ReinforcedDataset,
    Sample,
    TrainingData,
    collate,
)
from mobileclip_deploy.training.trainer.loop import WEIGHTS, Training, read_state, sole_training
from mobileclip_deploy.training.trainer.network import merge_factors, start, write_weights
from mobileclip_deploy.training.trainer.objective import Embedded, Objective, Towers, objective
from mobileclip_deploy.training.trainer.processes import ALONE, Processes, joined
from mobileclip_deploy.training.trainer.recipe import FINETUNE, PRESETS, Recipe

LOG = "log.csv"


@dataclass(frozen=True)
class LogRow:
    """Progress of a training. `loss` is the mean since the last row, `scale` the factor of the cosines. Recalls are
    recall@1 of the averaged weights on the held-out set, in percent."""

    step: int
    samples: int
    loss: float
    learning_rate: float
    scale: float
    image_to_text_recall: float
    text_to_image_recall: float


@dataclass(frozen=True)
class LeftOut:
    """Omissions of a training on published shards: samples `without_image` or `without_text`. `skipped` counts the
    unusable samples met at steps of this run. `bad` has a line for each damaged shard or sample."""

    samples: int
    without_image: int
    without_text: int
    skipped: int
    bad: tuple[str, ...]


@dataclass(frozen=True)
class Trained:
    """A finished training: its folder, the checkpoint in it and its log. `resumed_at` is the first step of this run (0:
    from the start), `left_out` the omissions from published shards (None for other data)."""

    folder: Path
    weights: Path
    resumed_at: int
    log: tuple[LogRow, ...]
    left_out: LeftOut | None = None


class _Guarded(TorchDataset[Sample | InvalidInput]):
    """Dataset that returns a refusal as a value: torch would put the traceback of a loading process into its text."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data

    def __getitem__(self, choice: Any) -> Sample | InvalidInput:
        try:
            return self.data[choice]
        except InvalidInput as error:
            return error


def _together(samples: Sequence[Sample | InvalidInput]) -> Batch | InvalidInput:
    refusal = next((sample for sample in samples if isinstance(sample, InvalidInput)), None)
    return refusal or collate([sample for sample in samples if isinstance(sample, Sample)])


def _batches(dataset: TrainingData, recipe: Recipe, first: int, processes: Processes) -> Iterator[list[Any]]:
    """Yields this process's shares of the batches of a training from step `first` on. Each batch depends only on the
    seed and its own index."""
    for step in range(first, recipe.steps):
        # Neighbouring seeds give unrelated numbers: torch mixes them (Mersenne twister, seeded through a hash).
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        yield processes.share(dataset.choose(recipe.batch, generator))


class _Training(Training[MobileCLIP, Batch | InvalidInput, LogRow]):
    """Training of both towers on batches of pairs."""

    called, row = "model", LogRow
    objective: Objective

    def __init__(
        self,
        recipe: Recipe,
        dataset: TrainingData,
        folder: Path,
        processes: Processes = ALONE,
        known: dict[str, Any] | None = None,
    ) -> None:
        self.recipe, self.skipped = recipe, 0
        self.held_out, self.best = held_out(recipe), Best()
        device = processes.device(recipe.device)
        self.model = start(recipe).to(device)
        learned = objective(recipe, dataset, self.model).to(device)
        identity = recipe.identity() | {"pairs": dataset.pairs_sha256, "rows": len(dataset)}
        super().__init__(self.model, learned, recipe, folder, processes, identity)
        self.towers = Towers(self.model, recipe.autocast is not None)
        self.parallel = processes.parallel(self.towers)
        if known is not None:
            self.resume(known)

    def gradients(self, item: Batch | InvalidInput) -> Tensor:
        """Computes the loss of this process's share of a batch and leaves its gradients in the weights."""
        self.processes.raise_if_any_failed(item if isinstance(item, InvalidInput) else None)
        assert isinstance(item, Batch)
        loss = self._gradients(self.processes.with_common_captions(item, self.model.logit_scale.device))
        self.processes.averaged(self.objective)
        self.skipped += item.skipped
        return loss

    @torch.no_grad()
    def bound(self) -> None:
        """Clamps the factor of the cosines to its upper limit."""
        self.model.logit_scale.clamp_(max=math.log(LARGEST_LOGIT_FACTOR))

    def _gradients(self, batch: Batch) -> Tensor:
        """Computes the loss and leaves its gradients in the weights.

        With `accumulate`, every part passes the towers twice: first without gradients, for the loss of the whole batch.
        The second pass has gradients, and backpropagates the loss's gradients with respect to its embeddings (arXiv
        2101.06983; open_clip does the same).
        """
        processes, labels = self.processes, self.processes.labels(batch, self.model.logit_scale.device)
        parts = _parts(batch, self.recipe.accumulate or 1)
        if len(parts) == 1:
            loss = self._loss(self.parallel(batch.pixels, self._read(batch)), labels)
            loss.backward()
            return loss
        buffers = {name: value.clone() for name, value in self.model.named_buffers()}
        with torch.no_grad():
            answers = [self.towers(part.pixels, self._read(part)) for part in parts]
            for name, value in self.model.named_buffers():  # BatchNorm counts each part once
                value.copy_(buffers[name])
        images, texts = (torch.cat([answer[index] for answer in answers]).requires_grad_() for index in range(2))
        scale = answers[-1][2].clone().requires_grad_()
        loss = self._loss((images, texts, scale), labels)
        loss.backward()
        assert images.grad is not None
        assert texts.grad is not None
        targets = zip(images.grad.chunk(len(parts)), texts.grad.chunk(len(parts)), strict=True)
        for number, (part, (of_images, of_texts)) in enumerate(zip(parts, targets, strict=True), start=1):
            last = number == len(parts)  # gradients are averaged over processes once, with the last part
            alone = processes.count == 1 or last
            with contextlib.nullcontext() if alone else self.parallel.no_sync():  # type: ignore[operator]
                outputs = self.parallel(part.pixels, self._read(part))
                surrogate = (outputs[0] * of_images).sum() + (outputs[1] * of_texts).sum()
                (surrogate + outputs[2] * (scale.grad if last else 0)).backward()
        return loss

    def _read(self, batch: Batch) -> Tensor:
        return self.objective.read(batch, self.processes.rank, self.processes.count)

    def _loss(self, embedded: tuple[Tensor, Tensor, Tensor], labels: Batch) -> Tensor:
        """Computes the loss of the whole batch, from this process's share of the embeddings."""
        images, texts, scale = embedded
        # Texts of one pair stay together: [C, D] as [b, texts of a pair, D].
        grouped = texts.reshape(len(images), -1, texts.shape[1]) if len(texts) % len(images) == 0 else texts[:, None]
        gathered = self.processes.gathered(grouped).flatten(0, 1)
        return self.checked_loss(
            self.objective.loss(Embedded(self.processes.gathered(images), gathered, scale), labels)
        )

    def improved(self) -> bool:
        """Keeps the weights of the best measurement. Returns whether the last `patience` measurements had it."""
        if self.recipe.patience is None:
            return True
        row = self.log[-1]
        recall = (row.image_to_text_recall + row.text_to_image_recall) / 2
        if recall > self.best.recall:
            weights = {name: value.clone() for name, value in self.averaged.state_dict().items()}
            self.best = Best(recall, row.step, weights)
        return sum(row.step > self.best.step for row in self.log) < self.recipe.patience

    @property
    def result(self) -> MobileCLIP:
        """The averaged weights, at the best measurement if the recipe has `patience`; with LoRA's factors merged."""
        if self.best.weights:
            self.averaged.load_state_dict(self.best.weights)
        return merge_factors(self.averaged)

    def kept(self) -> dict[str, Any]:
        return {} if self.recipe.patience is None else {"best": vars(self.best)}

    def resume(self, state: dict[str, Any]) -> None:
        super().resume(state)
        self.best = Best(**state["best"]) if self.recipe.patience is not None else self.best

    def measure(self) -> LogRow:
        """Returns a log row of the averaged weights. On a dataset of classes both recalls are its top-1."""
        task = "retrieval" if "retrieval" in self.held_out.tasks else "classification"
        figures = measure(model_embedder(self.averaged), self.held_out, (task,)).result.figures
        names = (
            [f"{way}_recall@1" for way in ("image_to_text", "text_to_image")] if task == "retrieval" else ["top1"] * 2
        )
        return LogRow(
            step=self.step,
            samples=self.step * self.recipe.batch,
            loss=sum(self.losses) / len(self.losses),
            learning_rate=float(self.schedule.get_last_lr()[0]),
            scale=self.model.logit_factor,
            image_to_text_recall=figures[names[0]].value,
            text_to_image_recall=figures[names[1]].value,
        )


@dataclass(frozen=True)
class Best:
    """Best measurement so far: mean of its recalls, its step, and the averaged weights."""

    recall: float = -1.0
    step: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)


def held_out(recipe: Recipe) -> Dataset:
    """Returns the dataset on which a recipe measures.

    Raises:
        InvalidInput: it cannot be read.
    """
    if recipe.evaluation is not None:
        return read_dataset(recipe.evaluation)
    return builtin_dataset() if recipe.patience is None else _dataset(recipe.data).divided()[0]


def _dataset(data: Path) -> Dataset:
    manifest = data / "pairs.jsonl"
    return read_dataset(manifest if manifest.is_file() and not (data / "dataset.json").is_file() else data)


def _pairs(recipe: Recipe, variant: Variant) -> Pairs:
    """Reads plain pairs, in their forms or in those of `evaluate`; without those that are held out."""
    data = recipe.data
    plain = data.suffix == ".jsonl" or any((data / name).is_file() for name in ("pairs.jsonl", "dataset.json"))
    if recipe.patience is not None and recipe.evaluation is None:
        return pairs_of(_dataset(data).divided()[1], data, recipe.template or variant.template)
    if plain or (data.is_dir() and not any(path.is_dir() for path in data.iterdir())):
        return read_pairs(data)
    return pairs_of(read_dataset(data), data, recipe.template or variant.template)


def training_data(recipe: Recipe, progress: Progress = silent) -> TrainingData:
    """Reads the pairs that the recipe trains on.

    Raises:
        InvalidInput: they are incomplete, damaged or without captions, or plain where the recipe needs teachers.
        UsageError: the recipe augments images whose augmentations are stored, or has fields for other data.
    """
    progress(f"reading {recipe.data}")
    variant = load_variant(recipe.variant)
    dataset: TrainingData
    indexed = read_index(recipe.data).format if (recipe.data / INDEX).is_file() else None
    published = indexed != OURS and recipe.data.is_dir() and bool(shard_files(recipe.data))
    if recipe.datacompdr is not None and not published:
        raise UsageError(f"{recipe.data} has no published shards (*.tar); leave `datacompdr` and `images` out")
    if published:
        dataset = PublishedDataset(recipe.data, variant, recipe.datacompdr, progress)
    elif not (recipe.data / INDEX).is_file() and recipe.distillation == 0:
        policy = recipe.augmentation or AugmentationPolicy()
        dataset = PlainDataset(_pairs(recipe, variant), variant, policy, recipe.seed)
    else:
        described = any((recipe.data / name).is_file() for name in ("pairs.jsonl", "dataset.json"))
        if indexed is None and (described or recipe.data.is_file()):
            check_pairs(recipe.data)
            default = "" if "distillation" in recipe.model_fields_set else " (the default)"
            raise InvalidInput(
                f"{recipe.data} holds plain pairs, and distillation is {recipe.distillation:g}{default}, which needs "
                "what `reinforce` stores; set distillation: 0"
            )
        dataset = ReinforcedDataset(recipe.data, variant)
    if dataset.teachers and recipe.augmentation is not None:
        raise UsageError(f"{recipe.data} is reinforced and stores its augmentations; leave `augmentation` out")
    if not dataset.captioned:
        raise InvalidInput(f"{recipe.data} has no captions, which both towers learn from; give pairs with texts")
    if not published and fitting_batch(recipe, len(dataset)) > len(dataset):
        raise InvalidInput(
            f"a batch of {recipe.batch:,} of {len(dataset):,} pairs would repeat each pair; set batch to at most "
            f"{len(dataset):,}"
        )
    return dataset


def fitting_batch(recipe: Recipe, pairs: int) -> int:
    """Returns the batch of a recipe: that of the preset `finetune` falls to the number of pairs."""
    unset = recipe.preset == FINETUNE and recipe.batch == PRESETS[FINETUNE]["batch"]
    return max(2, min(recipe.batch, pairs)) if unset else recipe.batch


def train(
    recipe: Recipe,
    folder: Path,
    progress: Progress = silent,
    measured: Callable[[LogRow], None] = lambda _: None,
    announce: Callable[[str], None] = silent,
) -> Trained:
    """Trains as `training.door.train` does, from a parsed recipe. On one thread of a CPU a stopped run resumes to the
    same bits.

    Raises:
        MobileClipDeployError: as there; or, PeerFailed, another process of this training failed.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(safe_children())  # covers the recipe's workers, too
        processes = stack.enter_context(joined(recipe.device))
        if recipe.patience is not None and processes.count > 1:
            raise UsageError("patience is for a training in one process; leave it out, or start without torchrun")
        if recipe.autocast and recipe.device.startswith("cuda") and not torch.cuda.is_bf16_supported(False):
            raise UsageError("this GPU has no bfloat16; leave the recipe's autocast out")
        report = progress if processes.first else silent
        dataset = processes.run_on_all(lambda: training_data(recipe, report))
        recipe = recipe.model_copy(update={"batch": fitting_batch(recipe, len(dataset))})
        processes.run_on_all(lambda: _check_shares(recipe, processes))
        processes.run_on_all(lambda: stack.enter_context(sole_training(folder, processes)))
        state = processes.run_on_all(lambda: read_state(folder))
        training = processes.run_on_all(lambda: _Training(recipe, dataset, folder, processes, state))
        training.announce = announce
        loader = DataLoader(
            _Guarded(dataset),
            batch_sampler=_batches(dataset, recipe, training.step, processes),
            collate_fn=_together,
            num_workers=recipe.workers,
        )

        def told(row: LogRow) -> None:
            _write_log(folder, training.log)
            measured(row)

        first = training.run(loader, report, told)
        if processes.first:
            _write_log(folder, training.log)
            write_weights(training.result, folder / WEIGHTS, None if recipe.start is None else recipe.start.name)
        skipped, left_out = processes.total(training.skipped), None
        if isinstance(dataset, PublishedDataset):
            joint = dataset.joined
            left_out = LeftOut(len(joint), joint.without_image, joint.without_text, skipped, tuple(joint.bad))
        return Trained(folder, folder / WEIGHTS, first, tuple(training.log), left_out)


def _write_log(folder: Path, rows: Sequence[LogRow]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[column.name for column in fields(LogRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows([asdict(row) for row in rows])
    write_whole(folder / LOG, text.getvalue())


def _check_shares(recipe: Recipe, processes: Processes) -> None:
    """Refuses a batch that does not divide evenly: every share must count the same."""
    parts = processes.count * (recipe.accumulate or 1)
    if recipe.batch % parts:
        raise UsageError(
            f"a batch of {recipe.batch} cannot be divided among {processes.count} processes in "
            f"{recipe.accumulate or 1} parts each; use a multiple of {parts}"
        )
    read = min(recipe.anchors.captions, recipe.batch) if recipe.anchors is not None else 0
    if read % processes.count:
        raise UsageError(
            f"{read} captions of anchors cannot be divided among {processes.count} processes; use a multiple of that"
        )


def _parts(batch: Batch, count: int) -> list[Batch]:
    """Returns a batch cut into `count` equal parts, in order."""
    size = len(batch.rows) // count
    slices = [slice(start, start + size) for start in range(0, len(batch.rows), size)]
    return [replace(batch.labels(itemgetter(part)), pixels=batch.pixels[part]) for part in slices]
