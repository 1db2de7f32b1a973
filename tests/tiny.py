"""Small variants with every kind of block, and checkpoints of them: what can be tested in milliseconds is."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from golden_checkpoints import fill
from pieces import tokenizer_json
from safetensors.torch import save_file
from torch import Tensor, nn

from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.network.checkpoints import open_clip
from mobileclip_deploy.network.checkpoints.fitting import CandidateIdentity
from mobileclip_deploy.network.folding import fold
from mobileclip_deploy.network.model import variants
from mobileclip_deploy.network.model.architecture import MobileCLIP, build_model
from mobileclip_deploy.network.model.variants import TowerName, Variant

WORDS = "tiny_words"
"""A small network that knows the words of the packaged prompts."""
PIECES = "tiny_pieces"
"""A third, as SigLIP2's, with a SentencePiece vocabulary of its own in a file beside it."""
CAUSAL = "tiny_causal"
"""A fifth that knows these words, whose text tower is causal."""
ROTARY_WORDS = "tiny_rotary_words"
"""Another one, whose image tower has rotary positions and a pooled query."""

TEXT = {"kind": "base", "width": 32, "depth": 2, "heads": 2, "causal": False}
MCI = {
    "kind": "mci",
    "depths": [1, 1, 1, 1],
    "widths": [16, 32, 32, 64],
    "mixers": ["repmixer", "repmixer", "repmixer", "attention"],
    "mlp_ratios": [2, 2, 2, 2],
    "positional": [False, False, False, True],
    "squeeze_excite": [False, False, True, True],
}
VIT = {"kind": "vit", "width": 32, "depth": 2, "heads": 2, "stem": "patch", "patch": 16, "class_token_position": True}
BIASED = {"image": {"projection_bias": True}}
STEM = {**VIT, "stem": "convolutional", "stem_padding": 1, "class_token_position": False}
TIMM_STEM = {"projection_bias": True, "stem_padding": 0, "norm_eps": 1e-6}
TINY: dict[str, dict[str, Any]] = {
    "tiny_later": {
        "image": STEM | TIMM_STEM,
        "text": TEXT | {"causal": True},
        "layouts": {"open_clip": {}},
        "size": 64,
    },
    "tiny_mci": {"image": MCI, "text": TEXT | {"kind": "mct"}, "layouts": {"apple": {}}, "size": 64},
    "tiny_both": {"image": MCI, "text": TEXT, "layouts": {"apple": {}, "open_clip": BIASED}, "size": 64},
    "tiny_five": {
        "image": MCI
        | {
            "depths": [1] * 5,
            "widths": [16, 16, 32, 32, 64],
            "mixers": [*MCI["mixers"], "attention"],
            "mlp_ratios": [2] * 5,
            "positional": [False] * 3 + [True] * 2,
            "squeeze_excite": [False] * 5,
            "attention_norm": "layer_norm",
            "stem_scale_branch": False,
            "projection_bias": True,
        },
        "text": TEXT,
        "layouts": {"open_clip": {}},
        "size": 64,
    },
    "tiny_stem": {
        "image": STEM,
        "text": TEXT | {"causal": True},
        "layouts": {"apple": {}, "open_clip": {"image": TIMM_STEM}},
        "size": 64,
    },
    "tiny_patch": {
        "image": VIT | {"pre_norm": True, "projection_bias": True},
        "text": TEXT,
        "layouts": {"open_clip": {}},
        "size": 64,
    },
    "tiny_quick": {
        "image": VIT | {"pre_norm": True, "activation": "quick_gelu"},
        "text": TEXT | {"causal": True, "activation": "quick_gelu"},
        "layouts": {"open_clip": {}},
        "size": 64,
    },
    "tiny_plain": {
        "image": VIT | {"pre_norm": True},
        "text": TEXT | {"causal": True},
        "layouts": {"open_clip": {}},
        "size": 64,
    },
    "tiny_rotary": {
        "image": VIT
        | {
            "depth": 1,
            "pre_norm": True,
            "projection_bias": True,
            "norm_eps": 1e-5,
            "rotary_grid": 4,
            "pooling": "attention",
            "pooling_heads": 4,
        },
        "text": TEXT | {"causal": True},
        "layouts": {"open_clip": {}},
        "preprocess": {"resize": "squash"},
        "size": 64,
    },
    "tiny_sigmoid": {
        "image": VIT
        | {
            "depth": 1,
            "class_token_position": False,
            "norm_eps": 1e-6,
            "stem_bias": True,
            "class_token": False,
            "activation": "gelu_tanh",
            "projection": False,
            "pooling": "attention",
            "pooling_heads": 2,
        },
        "embed_dim": 32,
        "text": TEXT
        | {"depth": 1, "norm_eps": 1e-6, "activation": "gelu_tanh", "pooling": "last", "projection_bias": True},
        "scores": "sigmoid",
        "layouts": {
            "open_clip": {},
            "transformers": {"image": {"activation": "gelu"}, "tokenizer": {"cleaning": "lower"}},
        },
        "preprocess": {"resize": "squash", "interpolation": "bicubic"},
        "size": 64,
    },
    "tiny_twin": {
        "image": VIT | {"pre_norm": True, "projection_bias": True},
        "text": TEXT,
        "layouts": {"open_clip": {}},
        "size": 64,
    },
}


def tiny_variant(name: str) -> Variant:
    return Variant.model_validate(card(name))


def filled(name: str, layout: str = "open_clip") -> MobileCLIP:
    """A network of one of TINY in eval mode, unfolded, with golden-style weights."""
    network = build_model(tiny_variant(name).for_layout(layout))
    network.load_state_dict({key: fill(0, key, value.shape) for key, value in network.state_dict().items()})
    return network.eval()


def inputs(tower: TowerName) -> np.ndarray:
    """Two inputs of a tower of one of TINY."""
    generator = np.random.default_rng(0)
    if tower == "image":
        return generator.random((2, 3, 64, 64), np.float32)
    ids = generator.integers(1, 90, (2, 8))
    ids[:, 0], ids[0, 5:], ids[1, 7:] = 90, (91, 0, 0), 91
    return ids


def wanted(model: MobileCLIP, tower: TowerName) -> np.ndarray:
    """What torch answers to them."""
    with torch.no_grad():
        return make_tower(model, tower)(torch.from_numpy(inputs(tower))).numpy()


def write_cards(folder: Path) -> dict[str, Path]:
    paths = {}
    for name in TINY:
        paths[name] = folder / f"{name}.json"
        paths[name].write_text(json.dumps(card(name)), encoding="utf-8")
    return paths


def checkpoint(name: str, layout: str, seed: int = 0) -> dict[str, Tensor]:
    """A checkpoint of a variant in a layout, named as the layout's own code names it, with golden-style weights."""
    return named(tiny_variant(name), layout, seed)


def named(variant: Variant, layout: str, seed: int = 0) -> dict[str, Tensor]:
    """As `checkpoint`, of any variant."""
    table = CandidateIdentity(variant, layout).expected.values()
    tensors = {entry.key: fill(seed, entry.key, entry.shape).contiguous() for entry in table}
    if layout == open_clip.NAME:
        definition = variant.for_layout(layout)
        return {open_clip.file_name(key, definition): value for key, value in tensors.items()}
    return tensors


def card(name: str) -> dict[str, Any]:
    tiny = TINY[name]
    return {
        "text": tiny["text"],
        "tokenizer": {"vocab_size": 92, "context_length": 8, "sot": 90, "eot": 91},
        "parameters_text": 1,
        "schema_version": 1,
        "name": name,
        "title": name,
        "embed_dim": tiny.get("embed_dim", 24),
        "image": tiny["image"],
        "preprocess": {"size": tiny["size"]} | tiny.get("preprocess", {}),
        "layouts": tiny["layouts"],
        "parameters_image": 1,
        "licence": {"name": "none", "research_only": False},
        "scores": tiny.get("scores", "softmax"),
    }


def network(seed: int = 0, variant: str = "tiny_mci") -> MobileCLIP:
    """A network, by default with every kind of block, folded, its weights drawn from a seed."""
    torch.manual_seed(seed)
    model = build_model(tiny_variant(variant)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    fold(model)
    return model


def write_card(name: str, folder: Path) -> Path:
    """The card of WORDS, ROTARY_WORDS, PIECES or CAUSAL, and the vocabulary that it reads beside it."""
    like = {
        WORDS: "tiny_mci",
        CAUSAL: "tiny_later",
        ROTARY_WORDS: "tiny_rotary",
        PIECES: "tiny_sigmoid",
    }[name]
    words = {key: value for key, value in card(like).items() if key != "tokenizer"}
    if name == CAUSAL:
        words["text"] = words["text"] | {"depth": 1}
    if name == PIECES:
        (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
        size = len(json.loads(tokenizer_json())["model"]["vocab"])
        kind = {"kind": "sentencepiece", "cleaning": "canonicalize"}
        words["tokenizer"] = kind | {"vocab_size": size, "context_length": 16, "eot": 1, "pad": 0}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(words | {"name": name, "title": name}), encoding="utf-8")
    return path


@contextmanager
def known(folder: Path, name: str = WORDS) -> Iterator[Path]:
    """The checkpoint of one of these, while its card is known. A process reads the card of a name once."""
    cards = variants._cards() | {name: write_card(name, folder)}
    with mock.patch.object(variants, "_cards", return_value=cards):
        variant = variants.load_variant(name)
        save_file(named(variant, next(iter(variant.layouts))), folder / "tiny.safetensors")
        yield folder / "tiny.safetensors"


def same_network(one: nn.Module, other: nn.Module) -> bool:
    """True if two modules have the same parts and the same numbers. Embeddings may still differ: weights of a mapped
    file may be at odd addresses, where sums round in another order."""
    numbers, others = one.state_dict(), other.state_dict()
    return (
        repr(one) == repr(other)
        and numbers.keys() == others.keys()
        and all(torch.equal(value, others[name]) for name, value in numbers.items())
    )
