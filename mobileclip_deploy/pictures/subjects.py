"""Bundles and checkpoints alike: the only place that chooses between them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.heads.validation import validated_inputs
from mobileclip_deploy.base.files import StrPath
from mobileclip_deploy.network.model.loaded import MobileCLIP
from mobileclip_deploy.network.model.variants import TokenizerSpec, TowerName
from mobileclip_deploy.pictures.embedder import Embedder, bundle_embedder, tower_runner


class CheckedRunner:
    """One tower of a bundle or of a checkpoint, ready to run. Checks inputs like `validated_inputs`, for every target.

    `engine` names the runtime; `preprocess` and `tokens` describe its inputs; `contexts` are the supported lengths of
    token ids, ascending.

    Raises:
        UsageError, NotRun, RuntimeFailed: as `tower_runner`.
    """

    def __init__(self, subject: Bundle | MobileCLIP, tower: TowerName) -> None:
        self.tower = tower
        config = subject.manifest if isinstance(subject, Bundle) else subject.variant
        self._known = config
        self.preprocess = config.preprocess
        self.contexts: tuple[int, ...] = (config.context_length,) if config.context_length else ()
        if isinstance(subject, Bundle):
            if tower == "text" and tower in subject.manifest.towers:
                self.contexts = subject.manifest.towers[tower].contexts or self.contexts
            self._runner = tower_runner(subject, tower)
        else:
            from mobileclip_deploy.pictures.checkpoint_embedder import model_runner

            self._runner = model_runner(subject, tower)
        self.engine = self._runner.engine

    def __call__(self, inputs: npt.ArrayLike) -> npt.NDArray[np.float32]:
        vocabulary = self.tokens.vocab_size if self.tower == "text" else 0
        return self._runner(validated_inputs(inputs, self.tower, self.preprocess.size, self.contexts, vocabulary))

    @property
    def tokens(self) -> TokenizerSpec:
        """Tokenizer of the text tower. Raises UsageError if the variant has none."""
        return self._known.tokens


def opened(subject: Bundle | MobileCLIP | StrPath) -> Bundle | MobileCLIP:
    """Returns a loaded model or a bundle as it is, and opens the bundle at a path.

    Raises:
        InvalidInput: there is no bundle, or a damaged one.
    """
    return subject if isinstance(subject, MobileCLIP) else Bundle.of(subject)


def embedder_of(subject: Bundle | MobileCLIP, towers: Sequence[TowerName] | None = None) -> Embedder:
    """Makes the embedder of a model or of a bundle, by `model_embedder` or `bundle_embedder`."""
    if isinstance(subject, Bundle):
        return bundle_embedder(subject, towers)
    from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder

    return model_embedder(subject)
