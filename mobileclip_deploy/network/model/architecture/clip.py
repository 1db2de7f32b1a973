"""The two towers and the temperature, built from a variant."""

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mobileclip_deploy.errors import CheckpointError, InvalidInput, UsageError
from mobileclip_deploy.network.model.architecture.fastvit import MCi
from mobileclip_deploy.network.model.architecture.text import TextTransformer
from mobileclip_deploy.network.model.architecture.vit import ViT
from mobileclip_deploy.network.model.provenance import Provenance
from mobileclip_deploy.network.model.scores import Scores, TrainedHead
from mobileclip_deploy.network.model.variants import TOWERS, MCiTower, Variant

FIRST_LOGIT_BIAS = -10.0
"""Initial bias of sigmoid scores (arXiv 2303.15343, section 3.3)."""
LARGEST_LOGIT_FACTOR = 100.0
"""CLIP's upper bound (arXiv 2103.00020, section 2.5) of the factor of cosines before a softmax."""


class MobileCLIP(nn.Module):
    """Image tower `image`, text tower `text`, `logit_scale` (a scalar, in log space), and `logit_bias` (a scalar, added
    to logits) of a variant whose scores are sigmoids.

    `towers` names the existing ones: a checkpoint of one tower gives a model whose other tower is None.
    `provenance` names the checkpoint of the weights; None if there was none. `trained_head`: a classifier's head in
    that checkpoint; None if it has none.
    """

    provenance: Provenance | None = None
    trained_head: TrainedHead | None = None

    def __init__(self, variant: Variant, towers: tuple[str, ...] = TOWERS) -> None:
        super().__init__()
        self.variant = variant
        self.towers = tuple(tower for tower in TOWERS if tower in towers)
        self.image = _image_tower(variant) if "image" in towers else None
        text = TextTransformer(variant.text, variant.tokens, variant.embed_dim) if "text" in towers else None
        self.text = text
        # CLIP's first temperature; a checkpoint has its own. Users of it take exp() and stop at 100, as CLIP does.
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        sigmoid = variant.scores == "sigmoid"
        self.logit_bias = nn.Parameter(torch.tensor(FIRST_LOGIT_BIAS)) if sigmoid else None

    @property
    def origin(self) -> Provenance:
        """Provenance of the weights.

        Raises:
            CheckpointError: the model has none, so that no bundle can name its weights.
        """
        if self.provenance is None:
            raise CheckpointError(
                "this model has no provenance; load it with load_model, so that files made from it can name it"
            )
        return self.provenance

    @property
    def logit_factor(self) -> float:
        """Factor of cosines: exp(`logit_scale`), the inverse temperature; before a softmax at most 100."""
        factor = self.logit_scale.detach().exp()
        return float(factor if self.logit_bias is not None else factor.clamp(max=LARGEST_LOGIT_FACTOR))

    @property
    def scores(self) -> Scores:
        """Function from cosines to scores."""
        return Scores(self.logit_factor, None if self.logit_bias is None else float(self.logit_bias.detach()))

    def encode_image(self, x: Tensor) -> Tensor:
        """Embeds images [N, 3, S, S] float32 after all preprocessing (mean and std applied): [N, D], not normalised.

        For the output of `preprocess`, `load_runner(model, "image")` applies mean and std.

        Raises:
            InvalidInput: not a tensor of that rank.
            UsageError: the model has no image tower.
        """
        if self.image is None:
            raise UsageError("this model has no image tower: its checkpoint has a text tower only")
        _require_tensor(x, 4, "images [N, 3, S, S]", "image")
        return self.image(x)

    def encode_text(self, ids: Tensor) -> Tensor:
        """Embeds token ids [N, L], of any integer type: [N, D], not normalised.

        Raises:
            InvalidInput: not a tensor of that rank.
            UsageError: the model has no text tower.
        """
        if self.text is None:
            raise UsageError("this model has no text tower: its checkpoint has an image tower only")
        _require_tensor(ids, 2, f"token ids [N, {self.variant.context_length}]", "text")
        return self.text(ids)


def _require_tensor(given: object, rank: int, what: str, tower: str) -> None:
    if isinstance(given, Tensor) and given.dim() == rank:
        return
    actual = f"a tensor {list(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
    raise InvalidInput(
        f"{actual} instead of a torch tensor, {what}; convert an array with torch.from_numpy, or run arrays through "
        f"load_runner(model, '{tower}')"
    )


def _image_tower(variant: Variant) -> MCi | ViT:
    if isinstance(variant.image, MCiTower):
        return MCi(variant.image, variant.embed_dim)
    return ViT(variant.image, variant.embed_dim, variant.preprocess.size)


def build_model(variant: Variant, device: str = "cpu", towers: tuple[str, ...] = TOWERS) -> MobileCLIP:
    """Builds the network of `variant` in training form and eval mode, initialised at random (or empty on "meta")."""
    with torch.device(device), _NoInitialisation() if device == "meta" else nullcontext():
        model = MobileCLIP(variant, towers)
    return model.eval()


class _NoInitialisation(TorchFunctionMode):
    """Mode that skips initialisation: drawing values for the meta device costs torch more than a second."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
