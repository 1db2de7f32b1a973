"""Variants: the cards models/*.json as frozen models; the only source of architecture facts."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema

from mobileclip_deploy.base.files.json_text import parse_json
from mobileclip_deploy.base.files.names import Name, Sha256, with_fields
from mobileclip_deploy.errors import InvalidInput, UsageError, reraising, suggestion
from mobileclip_deploy.network.model.licences import Licence
from mobileclip_deploy.network.model.prompts import Template
from mobileclip_deploy.network.model.tower_names import TOWERS, TowerName

__all__ = [
    "FIRST_MERGE",
    "TOWERS",
    "Licence",
    "MCiTower",
    "Preprocess",
    "Published",
    "PublishedFile",
    "TextTowerSpec",
    "TokenizerSpec",
    "TowerName",
    "Variant",
    "ViTTower",
    "load_variant",
    "models_dir",
    "refuse_gone",
    "read_card",
    "variant_cards",
    "variant_names",
]

CheckpointLayout = Literal["apple", "open_clip", "transformers"]

Activation = Literal["gelu", "gelu_tanh", "quick_gelu"]

LARGEST_IMAGE = 4096
LARGEST_VOCABULARY = 1 << 28
"""Most characters of a tokenizer.json."""
FIRST_MERGE = 512
"""Id of the first merge: after the 256 bytes, and the same 256 at the end of a word."""
CARDS_VARIABLE = "MOBILECLIP_DEPLOY_CARDS"
GONE = ("openvision", "fastvithd", "fastvitma", "fastvits", "fastvitt")
"""Beginnings of variants' names that version 0.4.0 was the last to have."""


class MCiTower(BaseModel, frozen=True, extra="forbid"):
    """An MCi image tower (FastViT with MobileOne stem): every tuple has one entry per stage."""

    kind: Literal["mci"]
    depths: tuple[PositiveInt, ...]
    widths: tuple[PositiveInt, ...]
    mixers: tuple[Literal["repmixer", "attention"], ...]
    mlp_ratios: tuple[PositiveFloat, ...]
    positional: tuple[bool, ...] = Field(description="RepCPE before the stage's blocks")
    squeeze_excite: tuple[bool, ...] = Field(description="squeeze-excite in the stage's patch embedding")
    attention_norm: Literal["batch_norm", "layer_norm"] = "batch_norm"
    head_dim: PositiveInt = 32
    stem_scale_branch: bool = True
    expansion: PositiveFloat = Field(2.0, description="channels after the last convolution over the last width")
    projection_bias: bool = False

    @model_validator(mode="after")
    def _one_entry_a_stage(self) -> MCiTower:
        per_stage = (self.widths, self.mixers, self.mlp_ratios, self.positional, self.squeeze_excite)
        if any(len(values) != len(self.depths) for values in per_stage):
            raise ValueError("depths, widths, mixers, mlp_ratios, positional and squeeze_excite differ in length")
        return self

    @property
    def features(self) -> int:
        """Channels after the last convolution."""
        return int(self.widths[-1] * self.expansion)

    @property
    def size_step(self) -> int:
        """Divisor of image sizes: the stem and every stage's patch embedding halve height and width."""
        return int(2 ** (len(self.depths) + 1))


class ViTTower(BaseModel, frozen=True, extra="forbid"):
    """A ViT image tower with a convolutional stem (MobileCLIP-B) or one patch convolution (OpenAI's, LAION's ViTs).
    PE-Core adds rotary positions and attention pooling. SigLIP2 has the pooling alone, without a class token or a
    projection."""

    kind: Literal["vit"]
    width: PositiveInt
    depth: PositiveInt
    heads: PositiveInt
    mlp_ratio: PositiveFloat = 4.0
    stem: Literal["convolutional", "patch"]
    patch: PositiveInt = 16
    stem_padding: Annotated[int, Field(ge=0)] = Field(
        0, description="of the first stem convolution (kernel 4, stride 4)"
    )
    norm_eps: PositiveFloat = 1e-5
    pre_norm: bool = False
    stem_bias: bool = False
    class_token: bool = True
    class_token_position: bool = Field(False, description="the position table has a row for the class token")
    activation: Activation = "gelu"
    projection: bool = Field(True, description="False: the pooled vector is the embedding")
    projection_bias: bool = False
    rotary_grid: PositiveInt | None = Field(
        None, description="side of the patch grid of rotary position embeddings; None: no rotary embeddings"
    )
    pooling: Literal["class_token", "attention"] = "class_token"
    pooling_heads: PositiveInt = Field(8, description="of attention pooling")

    @model_validator(mode="after")
    def _parts_fit(self) -> ViTTower:
        if not self.class_token and (self.class_token_position or self.pooling == "class_token"):
            raise ValueError("without a class token there is neither a position for it nor pooling by it")
        if self.rotary_grid is not None and self.width % (4 * self.heads):
            raise ValueError("rotary positions need heads of a multiple of 4 channels: two axes, in pairs")
        if self.pooling == "attention" and self.width % self.pooling_heads:
            raise ValueError("width is not a multiple of pooling_heads")
        return self

    @property
    def size_step(self) -> int:
        """Divisor of image sizes: the side of a patch."""
        return self.patch


class TextTowerSpec(BaseModel, frozen=True, extra="forbid"):
    """A text tower: `base` is a transformer, `mct` puts a RepMixer block before and after it."""

    kind: Literal["base", "mct"]
    width: PositiveInt
    depth: PositiveInt
    heads: PositiveInt
    mlp_ratio: PositiveFloat = 4.0
    causal: bool
    norm_eps: PositiveFloat = 1e-5
    activation: Activation = "gelu"
    pooling: Literal["end_of_text", "last"] = Field(
        "end_of_text",
        description="token whose output is the embedding; last: the last of the context, even if it is padding",
    )
    projection_bias: bool = False


class TokenizerSpec(BaseModel, frozen=True, extra="forbid"):
    """Tokenizer of a text tower. It is part of the model: bidirectional towers attend to the padding.

    `kind`: None for CLIP's byte-level BPE. "sentencepiece" for SentencePiece's BPE over whole texts, with bytes for
    characters that no piece has, as in Gemma and SigLIP2. `cleaning`: applied to a text first; None for CLIP's.
    "canonicalize", as open_clip calls it, drops ASCII punctuation too. "lower" only makes small letters, as
    transformers does for SigLIP2. A row of ids is `sot` (None: absent), the text, `eot`, then `pad` to the end.

    Bundles of version 0.4.0 may have the kind "wordpiece" (BERT's), the cleaning "whitespace", which leaves capitals to
    the vocabulary, and `last` at the last position.

    `merges_sha256`: of the merges, one per line, of a vocabulary that the checkpoint brings (`own`); None for CLIP's.
    `merges`: those, each "left right", the first to apply first. `file_sha256`, `file`: for the other kinds, the text
    of its tokenizer.json. JSON contains neither merges nor file; readers of a spec add them (`with_merges`,
    `with_file`).
    """

    kind: Literal["sentencepiece", "wordpiece"] | None = None
    cleaning: Literal["canonicalize", "lower", "whitespace"] | None = None
    vocab_size: PositiveInt = 49408
    context_length: PositiveInt = 77
    sot: int | None = Field(default_factory=lambda data: 49406 if data.get("kind") is None else None)
    eot: int = 49407
    pad: int = 0
    last: int | None = None
    merges_sha256: Sha256 | None = None
    merges: SkipJsonSchema[tuple[Name, ...]] = Field(default=(), exclude=True, repr=False)
    file_sha256: Sha256 | None = None
    file: SkipJsonSchema[str] = Field(default="", max_length=LARGEST_VOCABULARY, exclude=True, repr=False)

    @model_validator(mode="after")
    def _of_one_kind(self) -> TokenizerSpec:
        if (self.kind == "sentencepiece") == (self.sot is not None):
            raise ValueError("sentencepiece tokenizers have no `sot`, all others have one")
        if self.merges_sha256 is not None if self.kind else self.file_sha256 is not None:
            raise ValueError("CLIP's tokenizer has merges, all others have a file")
        return self

    @property
    def first(self) -> tuple[int, ...]:
        """Tokens at the start of every row of ids."""
        return () if self.sot is None else (self.sot,)

    @property
    def from_checkpoint(self) -> bool:
        """True if the checkpoint brings the vocabulary, and not the package."""
        return self.kind is not None or self.merges_sha256 is not None

    @property
    def missing(self) -> bool:
        """True if the checkpoint brings the vocabulary, and it was not read."""
        return self.from_checkpoint and not self.merges and not self.file

    @property
    def described(self) -> str:
        """A row of ids, in words."""
        ids = [f"{self.sot}" if self.sot is not None else "", "the text's", f"{self.eot}"]
        end = "the end" if self.last is None else f"{self.last} at the end"
        return f"{', '.join(filter(None, ids))}, then {self.pad} to {end}"

    def with_file(self, text: str) -> TokenizerSpec:
        """Returns this spec with the text of its tokenizer.json.

        Raises:
            InvalidInput: the text is another than `file_sha256` names.
        """
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest != self.file_sha256:
            raise InvalidInput(f"tokenizer.json (SHA-256 {digest}) is not this tokenizer's")
        return with_fields(self, file=text)

    @classmethod
    def from_merges(cls, merges: Sequence[str], context_length: int) -> TokenizerSpec:
        """Returns the spec of a byte-level BPE of CLIP's kind with these merges. Its tokens are 256 bytes, the same at
        the end of a word, one token per merge, then start and end of text."""
        size = FIRST_MERGE + len(merges) + 2
        return cls(
            vocab_size=size,
            context_length=context_length,
            sot=size - 2,
            eot=size - 1,
            merges_sha256=hashlib.sha256("\n".join(merges).encode()).hexdigest(),
            merges=tuple(merges),
        )

    def with_merges(self, merges: Sequence[str]) -> TokenizerSpec:
        """Returns this spec with its merges.

        Raises:
            InvalidInput: the merges are others than `merges_sha256` names.
        """
        own = TokenizerSpec.from_merges(merges, self.context_length)
        if self != own.model_copy(update={"merges": self.merges}):
            raise InvalidInput(
                f"the vocabulary ({len(merges):,} merges, SHA-256 {own.merges_sha256}) is not this tokenizer's"
            )
        return own


CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""https://github.com/openai/CLIP/blob/main/clip/clip.py, `_transform`."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""torchvision's pretrained models; also called timm's default."""


class Preprocess(BaseModel, frozen=True, extra="forbid"):
    """Conversion of an image file to the tower's input; mean and std are applied inside the exported graph."""

    size: PositiveInt
    resize: Literal["shorter_side", "squash"] = "shorter_side"
    crop: Literal["center"] = "center"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="share of the resized shorter side that the crop keeps (timm's crop_pct); None: all of it"
    )
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (1.0, 1.0, 1.0)

    @property
    def described(self) -> str:
        """The resize and crop of a picture, in words."""
        if self.resize == "squash":
            return f"squeezed to {self.resized} x {self.resized} ({self.interpolation}, antialiased), no crop"
        return (
            f"shorter side to {self.resized} ({self.interpolation}, antialiased), {self.size} x {self.size} from the "
            "centre"
        )

    @model_validator(mode="after")
    def _squeezed_whole(self) -> Preprocess:
        if self.resize == "squash" and self.crop_fraction is not None:
            raise ValueError("resizing by squash crops nothing; leave crop_fraction out")
        return self

    @property
    def resized(self) -> int:
        """Pixels of the shorter side before the crop; rounded down, as timm does."""
        return self.size if self.crop_fraction is None else math.floor(self.size / self.crop_fraction)


class Published(BaseModel, frozen=True, extra="forbid"):
    """Figures that others published, with their sources. Never measured by this project."""

    imagenet_top1: float | None = None
    coco_text_to_image_recall1: float | None = Field(None, description="percent, of MSCOCO's 5,000 test pictures")
    average_38: float | None = None
    iphone_12_pro_max_image_ms: float | None = None
    iphone_12_pro_max_text_ms: float | None = None
    source: str
    retrieval_source: str | None = None


class PublishedFile(BaseModel, frozen=True, extra="forbid"):
    """Location of a published checkpoint: a repository of the hub, and the file in it."""

    layout: CheckpointLayout
    repository: str
    file: str
    revision: str | None = None
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="refuse a file with another hash")


class Variant(BaseModel, frozen=True, extra="forbid"):
    """One model of the family. `layouts` holds the changes that a checkpoint layout makes to the architecture. Apple's
    and timm's definitions of ViT-B/16 differ in stem padding and LayerNorm epsilon, and both are right for their own
    checkpoints."""

    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    title: str
    embed_dim: PositiveInt
    image: Annotated[MCiTower | ViTTower, Field(discriminator="kind")]
    text: TextTowerSpec
    tokenizer: TokenizerSpec = TokenizerSpec()
    preprocess: Preprocess
    layouts: dict[CheckpointLayout, dict[str, dict[str, Any]]]
    parameters_image: PositiveInt = Field(
        description="trainable parameters before folding; a test compares with the network"
    )
    parameters_text: Annotated[int, Field(ge=0)] = 0
    licence: Licence
    sources: tuple[PublishedFile, ...] = ()
    published: Published | None = None
    template: Template = "a photo of a {}"
    languages: Literal["English", "multilingual"] = Field("English", description="of the training texts")
    scores: Literal["softmax", "sigmoid"] = Field(
        "softmax",
        description="probabilities of a picture's logits: softmax over all labels, or a sigmoid for each label",
    )

    @model_validator(mode="after")
    def _width_of_the_embedding(self) -> Variant:
        image = self.image
        if isinstance(image, ViTTower) and not image.projection and self.embed_dim != image.width:
            raise ValueError(f"without a projection embed_dim must be the width of the image tower, {image.width}")
        return self

    @property
    def activation(self) -> str:
        """Activation after the linear layers of its transformers: "GELU", or "QuickGELU" as in OpenAI's CLIP. The same
        weights give other embeddings with the other one, and no file records the one they were trained with."""
        towers = (self.image, self.text)
        quick = any(getattr(tower, "activation", None) == "quick_gelu" for tower in towers)
        return "QuickGELU" if quick else "GELU"

    @property
    def ends_texts(self) -> bool:
        """True if the text tower reads the embedding at the first end token, in a vocabulary of CLIP's kind."""
        return self.text.pooling == "end_of_text" and self.tokenizer.kind is None

    @property
    def tokens(self) -> TokenizerSpec:
        """Tokenizer of the text tower; a manifest has it under the same name."""
        return self.tokenizer

    @property
    def context_length(self) -> int:
        """Number of tokens per text."""
        return self.tokenizer.context_length

    def for_layout(self, layout: str) -> Variant:
        """Returns the variant as checkpoints of `layout` define it.

        Raises:
            UsageError: no checkpoint of this variant exists in that layout.
        """
        changes = {key: value for key, value in self.layouts.items() if key == layout}
        if not changes:
            raise UsageError(f"{self.name} has no {layout} checkpoints; known layouts: {', '.join(self.layouts)}")
        data = self.model_dump(mode="json")
        for section, fields in next(iter(changes.values())).items():
            data[section] |= fields
        variant = Variant.model_validate(data)
        return variant.with_tokenizer(self.tokenizer.model_copy(update={"cleaning": variant.tokenizer.cleaning}))

    def with_tokenizer(self, tokenizer: TokenizerSpec) -> Variant:
        """Returns the variant with the vocabulary that a checkpoint brings."""
        return self.model_copy(update={"tokenizer": tokenizer})

    def with_text_form(self, name: str | None) -> Variant:
        """Returns the variant with the text tower of another variant's form; unchanged for None.

        Raises:
            UsageError: no such variant.
        """
        return self if name is None else self.model_copy(update={"text": load_variant(name).text})

    def with_image_size(self, size: int) -> Variant:
        """Returns the variant as fine-tuned at another image size, in pixels.

        Raises:
            UsageError: the image tower cannot take that size.
        """
        step = self.image.size_step
        if size < step or size % step or size > LARGEST_IMAGE:
            raise UsageError(
                f"{self.name} takes image sizes in multiples of {step} up to {LARGEST_IMAGE}, not {size}; its "
                f"published size is {self.preprocess.size}"
            )
        return with_fields(self, preprocess=with_fields(self.preprocess, size=size))

    @property
    def image_input_shape(self) -> tuple[int, int, int]:
        """Shape (3, S, S) of one image after preprocessing."""
        return (3, self.preprocess.size, self.preprocess.size)


def models_dir() -> Path:
    """Returns the folder of cards: in the package in a wheel, at the top of the repository in a checkout."""
    packaged = Path(__file__).parents[2] / "models"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "models"


def read_card(path: Path) -> Variant:
    """Reads one variant card.

    Raises:
        InvalidInput: not a readable file, not JSON, or a field is missing, unknown or out of range.
    """
    with reraising(f"{path} is not a readable variant card", OSError, ValueError):
        fields = parse_json(path.read_text(encoding="utf-8"))
    with reraising(f"{path}", ValidationError):
        return Variant.model_validate(fields)


@cache
def _cards() -> dict[str, Path]:
    listed = os.environ.get(CARDS_VARIABLE)
    folders = [models_dir(), *map(Path, listed.split(os.pathsep) if listed else ())]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.json"))}


def variant_names() -> list[str]:
    """Returns names of all packaged variants, sorted, then of those in the folders that MOBILECLIP_DEPLOY_CARDS
    lists."""
    return list(_cards())


@cache
def load_variant(name: str) -> Variant:
    """Returns the variant called `name`; hyphens and capitals as in `MobileCLIP2-L-14` are accepted.

    Raises:
        UsageError: unknown name; the text suggests similar ones.
    """
    letters = _letters(name)
    path = next((path for stem, path in _cards().items() if _letters(stem) == letters), None)
    if path is None:
        refuse_gone(name)
        close = _of_that_name(letters) or suggestion(name.lower().replace("-", "_"), _cards())
        raise UsageError(f"unknown variant {name!r}{close}; `variants` lists all {len(_cards())}")
    return read_card(path)


def refuse_gone(name: str) -> None:
    """Raises UsageError for a variant that only earlier versions have, unless a card of the user has its name."""
    if name not in _cards() and _letters(name).startswith(GONE):
        raise UsageError(f"{name} is a variant that only version 0.4.0 has; use that version to export or verify it")


def _of_that_name(letters: str) -> str:
    """Returns a suggestion for a name of open_clip, such as ViT-B-32 or ViT-B-32-quickgelu; else "".

    open_clip puts QuickGELU into the architecture's name: its ViT-B-32 has GELU, OpenAI's weights of that name do not.
    """
    bare = letters.removesuffix("quickgelu")
    cards = [read_card(path) for stem, path in _cards().items() if bare and bare in _letters(stem)]
    if not any(card.activation == "QuickGELU" for card in cards):
        return ""
    listed = ", ".join(
        f"{card.name} ({card.activation})" for card in cards if bare == letters or card.activation != "GELU"
    )
    return f", which could be {listed}; open_clip's ViTs have GELU, those called -quickgelu and OpenAI's have QuickGELU"


def variant_cards() -> tuple[Variant, ...]:
    """Returns the cards of all variants, in the order of `variant_names`.

    Raises:
        InvalidInput: a card cannot be read.
    """
    return tuple(map(load_variant, variant_names()))


def _letters(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
