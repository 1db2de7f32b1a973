"""Reinforced datasets (arXiv 2311.17049): what teachers know, stored once beside the data, for training without."""

from mobileclip_deploy.learning.reinforcement.augmentation import AugmentationPolicy
from mobileclip_deploy.learning.reinforcement.building import (
    SAFETENSORS,
    Existing,
    Reinforced,
    ReinforcementSettings,
    reinforce,
)
from mobileclip_deploy.learning.reinforcement.captioning import (
    Captioner,
    CaptionSettings,
    caption_pairs,
    load_captioner,
)
from mobileclip_deploy.learning.reinforcement.pairs import Pairs, read_pairs
from mobileclip_deploy.learning.reinforcement.samples import (
    Batch,
    Choice,
    PairDataset,
    PlainDataset,
    ReinforcedDataset,
    Sample,
    TrainingData,
    collate,
)
from mobileclip_deploy.learning.reinforcement.teachers import Teacher

__all__ = [
    "SAFETENSORS",
    "AugmentationPolicy",
    "Batch",
    "CaptionSettings",
    "Captioner",
    "Choice",
    "Existing",
    "PairDataset",
    "Pairs",
    "PlainDataset",
    "Reinforced",
    "ReinforcedDataset",
    "ReinforcementSettings",
    "Sample",
    "Teacher",
    "TrainingData",
    "caption_pairs",
    "collate",
    "load_captioner",
    "read_pairs",
    "reinforce",
]
