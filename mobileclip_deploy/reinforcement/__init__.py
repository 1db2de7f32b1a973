"""Reinforced datasets (arXiv 2311.17049): what teachers know, stored once beside the data, for training without."""

from mobileclip_deploy.reinforcement.augmentation import AugmentationPolicy
from mobileclip_deploy.reinforcement.building import Reinforced, reinforce
from mobileclip_deploy.reinforcement.dataset import Batch, ReinforcedDataset, collate
from mobileclip_deploy.reinforcement.pairs import Pairs, read_pairs
from mobileclip_deploy.reinforcement.teachers import Teacher

__all__ = [
    "AugmentationPolicy",
    "Batch",
    "Pairs",
    "Reinforced",
    "ReinforcedDataset",
    "Teacher",
    "collate",
    "read_pairs",
    "reinforce",
]
