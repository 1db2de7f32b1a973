"""Distillation of a text tower over parallel sentences (as arXiv 2004.09813 does for sentence embeddings). For both
sides of a row the student learns the teacher's embedding of the English side."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.base.progress import Progress, about, silent
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.checkpoints.vocabulary import distilled_from
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint, checkpoint_file
from mobileclip_deploy.network.model.architecture.text import TextTransformer
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import TokenizerSpec
from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder
from mobileclip_deploy.pictures.embedding import embed_texts, unit
from mobileclip_deploy.training.language.judging import Found, check_learned, evaluate_language
from mobileclip_deploy.training.language.parallel import ENGLISH, Parallel, check_columns, pair_sha256, read_parallel
from mobileclip_deploy.training.language.recipe import TowerRecipe
from mobileclip_deploy.training.language.student import started, student, teacher_of, write_checkpoint
from mobileclip_deploy.training.language.vocabulary import learned_vocabulary
from mobileclip_deploy.training.trainer.loop import WEIGHTS, Training, read_state, sole_training
from mobileclip_deploy.training.trainer.processes import Processes, joined

HELD_OUT_SHARE, MOST_HELD_OUT, BATCH = 50, 1000, 256
"""Held-out settings: one English sentence in HELD_OUT_SHARE is held out if the recipe names no table. Each language is
measured on MOST_HELD_OUT pairs at most, embedded by BATCH."""


@dataclass(frozen=True)
class TowerRow:
    """Progress of a training: the mean loss since the last row, and the retrieval results on held-out sentences by
    language."""

    step: int
    loss: float
    found: Mapping[str, Found]


@dataclass(frozen=True)
class DistilledTower:
    """A finished training: the checkpoint, the step at which it was resumed, its rows and the pairs by language.
    `left_out` counts the texts left out by reason, `vocabulary` its tokens."""

    weights: Path
    resumed_at: int
    log: tuple[TowerRow, ...]
    pairs: Mapping[str, int]
    left_out: Mapping[str, int]
    vocabulary: int


@dataclass(frozen=True)
class _Data:
    """Pairs that are `learned` and `held_out`, with the teacher's unit embeddings [E, D] of the English sentences of
    each."""

    learned: Parallel
    held_out: Parallel
    targets: Tensor
    held_out_targets: npt.NDArray[np.float32]


def distillation_loss(texts: Tensor, targets: Tensor, same: Tensor, contrast: float, temperature: float) -> Tensor:
    """Returns half the squared distance of unit vectors, plus the cross-entropy of each text among the batch's
    sentences and further ones.

    Args:
        texts: unit length [B, D], the student's.
        targets: unit length [B + N, D], the teacher's: of the sentence of each text, then of N others.
        same: [B, B + N], true where a candidate is the text's own sentence; repeats of it do not count as negatives.
        contrast: weight of the cross-entropy.
    """
    distance = (1 - (texts * targets[: len(texts)]).sum(dim=1)).mean()
    if contrast == 0:
        return distance
    logits = texts @ targets.T / temperature
    others = same & ~torch.eye(*same.shape, dtype=torch.bool, device=same.device)
    logits = logits.masked_fill(others, float("-inf"))
    labels = torch.arange(len(texts), device=texts.device)
    return distance + contrast * F.cross_entropy(logits, labels)


class _Training(Training[TextTransformer, int, TowerRow]):
    """Training of a text tower on batches of texts; the index of a step decides its batch."""

    called, row = "tower", TowerRow

    def __init__(
        self,
        recipe: TowerRecipe,
        source: Source,
        data: _Data,
        known: dict[str, Any] | None,
        place: tuple[Path, Processes],
    ) -> None:
        folder, processes = place
        self.recipe, self.data = recipe, data
        self.device = torch.device(processes.device(recipe.device))
        first = None if recipe.start is None else started(recipe.start, source)
        distilled = None if first is None else first.provenance.distilled
        self.form = recipe.form if distilled is None else distilled.form
        self.tokens = self._tokens(known) if first is None else first.variant.tokens
        torch.manual_seed(recipe.seed)
        tower = student(source, self.tokens, recipe) if first is None else first.model.text
        assert tower is not None
        assert source.provenance.weights is not None
        identity = recipe.identity() | {
            "pairs": data.learned.sha256,
            "held_out": data.held_out.sha256,
            "teacher": source.provenance.weights,
        }
        tower = tower.requires_grad_(True).train().to(self.device)
        super().__init__(tower, nn.Module(), recipe, folder, processes, identity)
        self.parallel = processes.parallel(tower)
        self.texts = LearnedTexts(data.learned, self.tokens)
        self.targets = data.targets.to(self.device)
        self.begun: dict[str, Found] = {}
        if known is not None:
            self.resume(known)
            self.begun = TypeAdapter(dict[str, Found]).validate_python(known["begun"])
        elif processes.first:
            self.begun = self._found()

    def _tokens(self, known: dict[str, Any] | None) -> TokenizerSpec:
        if known is not None and "merges" in known:
            return TokenizerSpec.from_merges(known["merges"], self.recipe.context)
        sentences = [*self.data.learned.english, *self.data.learned.texts]
        return learned_vocabulary(sentences, self.recipe.vocabulary, self.recipe.context)

    def kept(self) -> dict[str, Any]:
        """Returns the results before the first step, and the vocabulary."""
        begun = {language: asdict(result) for language, result in self.begun.items()}
        return {"begun": begun, "merges": list(self.tokens.merges)}

    def gradients(self, item: int) -> Tensor:
        """Computes the loss of this process's share of the batch of step `item`, and leaves its gradients in the
        weights."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + item)
        rows, sentences = self.texts.drawn(self.recipe.batch, self.recipe.english, generator)
        ids = self.texts.ids[self.processes.share(rows.tolist())].to(self.device)
        texts = self.processes.gathered(F.normalize(self.parallel(ids.long()), dim=1))
        further = torch.randint(len(self.targets), (self.recipe.negatives,), generator=generator)
        candidates = torch.cat([sentences, further]).to(self.device)
        same = candidates[: len(sentences), None] == candidates[None]
        loss = distillation_loss(texts, self.targets[candidates], same, self.recipe.contrast, self.recipe.temperature)
        self.checked_loss(loss).backward()
        return loss

    def measure(self) -> TowerRow:
        """Returns a log row of the averaged weights."""
        return TowerRow(self.step, sum(self.losses) / len(self.losses), self._found())

    def _found(self) -> dict[str, Found]:
        """Measures the running average of the weights on the held-out sentences, by language."""
        held_out = self.data.held_out
        right, languages = np.array(held_out.english_of, dtype=np.int64), np.array(held_out.languages)
        results = {
            ENGLISH: evaluate_language(
                self._embedded(held_out.english), self.data.held_out_targets, np.arange(len(held_out.english))
            )
        }
        for language in self.recipe.languages:
            rows = np.flatnonzero(languages == language)[:MOST_HELD_OUT]
            if len(rows):
                texts = self._embedded([held_out.texts[row] for row in rows])
                results[language] = evaluate_language(texts, self.data.held_out_targets, right[rows])
        return results

    @torch.no_grad()
    def _embedded(self, texts: Any) -> npt.NDArray[np.float32]:
        ids = torch.from_numpy(encode(list(texts), self.tokens)).to(self.device)
        return unit(torch.cat([self.averaged(part) for part in ids.split(BATCH)]).cpu().numpy())


class LearnedTexts:
    """Ids of every text that is learned, int32 [P + E, L]: pairs first, English sentences after them. Each language is
    drawn as often as the others."""

    def __init__(self, pairs: Parallel, tokens: TokenizerSpec) -> None:
        different = {text: row for row, text in enumerate(dict.fromkeys((*pairs.texts, *pairs.english)))}
        ids = encode(list(different), tokens).astype(np.int32)
        self.ids = torch.from_numpy(ids[[different[text] for text in (*pairs.texts, *pairs.english)]])
        self.sentences = torch.tensor([*pairs.english_of, *range(len(pairs.english))])
        languages, weights = np.array(pairs.languages), torch.tensor(pairs.weights, dtype=torch.float64)
        self.rows = [
            torch.from_numpy(np.flatnonzero(languages == language)) for language in dict.fromkeys(pairs.languages)
        ]
        self.until = [weights[rows].cumsum(0) for rows in self.rows]
        self.english_until = torch.tensor(pairs.english_weights, dtype=torch.float64).cumsum(0)
        self.pairs = len(pairs)

    def drawn(self, count: int, english: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws rows [B] of `ids`, the share `english` of them English, and returns them with the sentence [B] of
        each."""
        english_rows = round(count * english)
        languages = torch.randint(len(self.rows), (count - english_rows,), generator=generator)
        shares = torch.rand(count, generator=generator, dtype=torch.float64)
        rows = torch.empty(count, dtype=torch.int64)
        for language, (own_rows, until) in enumerate(zip(self.rows, self.until, strict=True)):
            positions = torch.nonzero(languages == language).flatten()
            rows[positions] = own_rows[_places(until, shares[positions])]
        rows[count - english_rows :] = self.pairs + _places(self.english_until, shares[count - english_rows :])
        rows = rows[torch.randperm(count, generator=generator)]
        return rows, self.sentences[rows]


def _places(until: Tensor, shares: Tensor) -> Tensor:
    """Returns the index of the item at each share (0 to 1) of the total weight, from the running sums `until`."""
    return torch.searchsorted(until, shares * until[-1], right=True).clamp(max=len(until) - 1)


def distil(
    recipe: TowerRecipe,
    folder: Path,
    progress: Progress = silent,
    measured: Callable[[TowerRow], None] = lambda _: None,
    announce: Callable[[str], None] = silent,
) -> DistilledTower:
    """Distils as `training.door.train_text_tower` does, from a parsed recipe. The folder keeps the teacher's
    embeddings, too.

    Raises:
        MobileClipDeployError: as there; or, PeerFailed, another process of this training failed.
    """
    with joined(recipe.device) as processes, ExitStack() as stack:
        report = progress if processes.first else silent
        path = builtin_checkpoint() if recipe.teacher is None else checkpoint_file(recipe.teacher)
        source = processes.run_on_all(lambda: teacher_of(path))
        processes.run_on_all(lambda: stack.enter_context(sole_training(folder, processes)))
        state = processes.run_on_all(lambda: read_state(folder))
        data = processes.run_on_all(lambda: _data(recipe, source, folder, report))
        if recipe.batch % processes.count:
            raise UsageError(f"a batch of {recipe.batch} cannot be divided among {processes.count} processes")
        training = processes.run_on_all(lambda: _Training(recipe, source, data, state, (folder, processes)))
        training.announce = announce
        first = training.run(range(training.step, recipe.steps), report, measured)
        if processes.first:
            check_learned(training.begun, training.log[-1].found, recipe.english_bound, recipe.start is not None)
            made = distilled_from(source.model, recipe.languages, training.form)
            write_checkpoint(path, training.averaged, made, training.tokens, folder / WEIGHTS)
    pairs = data.learned
    return DistilledTower(
        folder / WEIGHTS, first, tuple(training.log), pairs.counts(), pairs.left_out, training.tokens.vocab_size
    )


def _data(recipe: TowerRecipe, source: Source, folder: Path, progress: Progress) -> _Data:
    progress("reading sentences")
    everything = read_parallel(recipe.parallel, recipe.languages, recipe.filters)
    tokens = source.variant.tokens
    check_columns(everything, lambda texts: ((encode(texts, tokens) != tokens.pad).sum(axis=1) - 2).tolist())
    if recipe.held_out is None:
        learned, held_out = _divided(everything)
    else:
        learned, held_out = everything, read_parallel((recipe.held_out,), recipe.languages, recipe.filters)
        _refuse_seen(learned, held_out, recipe.held_out)
    folder.mkdir(parents=True, exist_ok=True)
    embedded = [_embedded(source, pairs.english, folder, progress) for pairs in (learned, held_out)]
    return _Data(learned, held_out, torch.from_numpy(embedded[0]), embedded[1])


def _divided(pairs: Parallel) -> tuple[Parallel, Parallel]:
    """Splits the pairs by their English sentences: every fiftieth, by its hash, is held out. A text in both halves is
    only learned."""
    held_out = {
        index
        for index, text in enumerate(pairs.english)
        if int(pair_sha256(ENGLISH, text)[:8], 16) % HELD_OUT_SHARE == 0
    }
    rows = range(len(pairs))
    learned = [row for row in rows if pairs.english_of[row] not in held_out]
    seen = {(pairs.languages[row], pairs.texts[row]) for row in learned}
    out = [
        row
        for row in rows
        if pairs.english_of[row] in held_out and (pairs.languages[row], pairs.texts[row]) not in seen
    ]
    missing = sorted(set(pairs.languages) - {pairs.languages[row] for row in out})
    if missing or not learned:
        raise InvalidInput(
            f"too few sentences for a held-out set ({', '.join(missing) or 'all'}), which is one in "
            f"{HELD_OUT_SHARE}; give {5 * HELD_OUT_SHARE} or more, or a recipe with a table as held_out"
        )
    return pairs.some(learned), pairs.some(out)


def _refuse_seen(learned: Parallel, held_out: Parallel, file: Path) -> None:
    seen = {pair_sha256(language, text) for language, text in zip(learned.languages, learned.texts, strict=True)}
    both = [
        (language, text)
        for language, text in zip(held_out.languages, held_out.texts, strict=True)
        if pair_sha256(language, text) in seen
    ]
    if both:
        language, text = both[0]
        raise InvalidInput(
            f"{file}: {len(both):,} of its texts are also learned, such as {text[:60]!r} ({language}); held-out texts "
            "must not be learned: remove them from one of the two tables"
        )


def _embedded(source: Source, english: tuple[str, ...], folder: Path, progress: Progress) -> npt.NDArray[np.float32]:
    """Returns the teacher's unit embeddings [E, D], cached in the folder."""
    report = about("teacher", progress)
    return unit(embed_texts(model_embedder(source.model), english, cache=folder / "teacher", progress=report))
