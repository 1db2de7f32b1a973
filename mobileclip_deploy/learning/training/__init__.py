"""Training small models on reinforced datasets, as a recipe says."""

from mobileclip_deploy.learning.training.recipe import Recipe, read_recipe
from mobileclip_deploy.learning.training.running import LeftOut, Trained, train
from mobileclip_deploy.learning.training.saving import LogRow

__all__ = ["LeftOut", "LogRow", "Recipe", "Trained", "read_recipe", "train"]
