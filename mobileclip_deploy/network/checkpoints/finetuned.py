"""Files of fine-tuning: a classifier's head on an image tower, a tower without its prefix, and PEFT's adapters."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, BeforeValidator, Field
from torch import Tensor

from mobileclip_deploy.base.files import read_json
from mobileclip_deploy.base.files.names import Name
from mobileclip_deploy.errors import REASON, CheckpointError, InvalidInput, Malformed, reraising
from mobileclip_deploy.network.checkpoints.tensor_files import TensorFile
from mobileclip_deploy.network.model.scores import TrainedHead

HEAD = re.compile(r"^(fc|head|classifier|classification_head|linear|linear_head|probe)\.(weight|bias)$")
BACKBONES = ("backbone.", "encoder.", "feature_extractor.", "visual_encoder.", "clip.", "model.")
WISE_FT = re.compile(r"^image_encoder\.model\.(?=visual\.|transformer\.|token_embedding|positional_|ln_final|.*logit)")
# An image tower of open_clip saved alone: a timm model, or open_clip's own ViT.
TRUNK, PLAIN_VIT = "trunk.", {"conv1.weight", "class_embedding", "ln_post.weight"}
PREFIX_NOTE = "its names lack the prefix `visual.`, as of open_clip's image tower saved alone; it is read as that tower"


def plain_tower(file: TensorFile) -> tuple[TensorFile, TrainedHead | None]:
    """Returns a file without a classifier's head and with the prefixes of its layout, and that head. None if it has no
    head.

    Raises:
        CheckpointError: the head's tensors are not one of `classes` rows, or are not finite.
    """
    wise = [key for key in file.shapes if WISE_FT.match(key)]
    heads = {match[2]: key for key in file.shapes if (match := HEAD.match(key)) is not None}
    rest = [key for key in file.shapes if key not in heads.values()]
    prefixes = (*(WISE_FT.match(key)[0] for key in wise[:1]), *BACKBONES)  # type: ignore[index]
    prefix = next((start for start in prefixes if rest and all(key.startswith(start) for key in rest)), None)
    head = None
    if "weight" in heads and prefix is not None:
        head = _head(file, heads, normalised=bool(wise))
        file = file.renamed({key.removeprefix(prefix): key for key in rest})
        note = f"its head of {head.classes} classes is used where `labels` names them, and left out otherwise"
        file = replace(file, notes=(*file.notes, note))
    bare = all(key.startswith(TRUNK) for key in file.shapes) or file.shapes.keys() >= PLAIN_VIT
    if bare and not any(key.startswith("token_embedding") for key in file.shapes):
        file = file.renamed({f"visual.{key}": key for key in file.shapes})
        file = replace(file, notes=(*file.notes, PREFIX_NOTE))
    return file, head


def _head(file: TensorFile, keys: Mapping[str, str], normalised: bool) -> TrainedHead:
    weight = file.read(keys["weight"]).double()
    bias = file.read(keys["bias"]).double() if "bias" in keys else torch.zeros(weight.shape[:1]).double()
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or not 2 <= len(weight) <= MOST_CLASSES:
        raise CheckpointError(f"{file.path}: {keys['weight']} {list(weight.shape)} is not a head of 2 classes or more")
    if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
        raise CheckpointError(f"{file.path}: its head has NaN or infinite weights; give an undamaged file")
    return TrainedHead(weight.numpy(), bias.numpy(), normalised)


MOST_CLASSES = 100_000
FACTOR = re.compile(r"^(?P<module>.+?)\.lora_(?P<which>[AB])\.(?:default\.)?weight$")
ADAPTER_CONFIG = "adapter_config.json"
BASE_LAYER, ATTENTION_OUTPUT = ".base_layer", ".base_layer.out_proj"
_Alpha = Annotated[float, Field(allow_inf_nan=False)]
_No = Literal[False]
STARTS = (True, False, "gaussian", "eva")
"""Values of `init_lora_weights` that leave the base as it is."""


def _plain_start(start: Any) -> Any:
    # The factors of PiSSA, OLoRA, CorDA and LoftQ belong to a base that no file of the adapter has.
    if start not in STARTS:
        raise Malformed(
            "such a start may change the base; convert the adapter with PEFT's "
            "`save_pretrained(path_initial_model_for_weight_conversion=...)`"
        )
    return start


class _AdapterConfig(BaseModel, frozen=True):
    """The fields of PEFT's adapter_config.json that decide the merged weights; what cannot be merged is False."""

    peft_type: Literal["LORA"]
    r: Annotated[int, Field(gt=0, le=1 << 16)]
    lora_alpha: _Alpha
    alpha_pattern: Annotated[dict[Name, _Alpha], Field(max_length=10_000)] = {}
    use_rslora: bool = False
    use_dora: _No = False
    use_qalora: _No = False
    fan_in_fan_out: _No = False
    lora_bias: _No = False
    init_lora_weights: Annotated[bool | Name, BeforeValidator(_plain_start)] = True
    layer_replication: None = None
    trainable_token_indices: None = None
    alora_invocation_tokens: None = None
    arrow_config: None = None
    kasa_config: None = None
    monteclora_config: None = None
    use_bdlora: None = None

    def scale(self, module: str, rank: int) -> float:
        """Returns the factor of a module's update."""
        # PEFT adds the update of nn.MultiheadAttention's output projection twice, also in each forward pass, so that
        # the network was trained so (`lora.layer.MultiheadAttention.merge`, as measured with 0.21.2).
        times = 2 if module.endswith(ATTENTION_OUTPUT) else 1
        plain = f".{module.replace(BASE_LAYER, '')}"
        suffixes = (alpha for name, alpha in self.alpha_pattern.items() if plain.endswith(f".{name}"))
        return times * next(suffixes, self.lora_alpha) / (math.sqrt(rank) if self.use_rslora else rank)


def merged(base: TensorFile, adapter: TensorFile) -> TensorFile:
    """Returns the base with PEFT's LoRA adapter merged into its weights, in float32.

    Raises:
        CheckpointError: the adapter has no LoRA factors, another kind of update, or does not fit the base.
    """
    path = adapter.path.parent / ADAPTER_CONFIG
    advice = "merge it with PEFT (`merge_and_unload()`), and save the result"
    with reraising(
        f"{path} cannot be used ({REASON}); {advice}", InvalidInput, OSError, ValueError, into=CheckpointError
    ):
        config = _AdapterConfig.model_validate(read_json(path))
    factors: dict[str, dict[str, str]] = {}
    made = {key: (shape, lambda key=key: base.read(key)) for key, shape in base.shapes.items()}
    for key, shape in adapter.shapes.items():
        if (match := FACTOR.match(key)) is not None:
            factors.setdefault(match["module"], {})[match["which"]] = key
        elif base.shapes.get(key) == shape:  # a layer that was trained whole (`modules_to_save`, biases)
            made[key] = shape, lambda key=key: adapter.read(key)
        else:
            raise CheckpointError(f"{adapter.path}: {key} {list(shape)} fits no tensor of {base.path.name}; {advice}")
    if not factors:
        raise CheckpointError(f"{adapter.path} has no LoRA factors; leave `base` out")
    for module, keys in factors.items():
        names = (f"{module.replace(BASE_LAYER, '')}.{end}" for end in ("weight", "in_proj_weight"))
        name = next((candidate for candidate in names if candidate in base.shapes), "")
        if not name or keys.keys() != {"A", "B"}:
            raise CheckpointError(
                f"{adapter.path}: {module} has no layer in {base.path.name}; give the checkpoint that it was trained on"
            )
        first, second = (adapter.shapes[keys[which]] for which in "AB")
        if second[1] != first[0] or (second[0], *first[1:]) != base.shapes[name]:
            raise CheckpointError(
                f"{adapter.path}: {module}'s factors {list(first)} and {list(second)} do not make {base.path.name}'s "
                f"{list(base.shapes[name])}; {advice}"
            )

        def weight(name: str = name, keys: Mapping[str, str] = keys, module: str = module) -> Tensor:
            down, up = (adapter.read(keys[which]).float() for which in "AB")
            update = torch.einsum("or,r...->o...", up.flatten(1), down)  # [out, r (, 1, 1)] x [r, in (, k, k)]
            return base.read(name).float() + config.scale(module, len(down)) * update

        made[name] = base.shapes[name], weight
    note = f"a LoRA adapter of {len(factors)} layers was merged into {base.path.name}, in float32"
    return replace(base.remade(made), notes=(*base.notes, note))
