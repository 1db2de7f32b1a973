"""Training small models on reinforced datasets, as a recipe says."""

from mobileclip_deploy.learning.training.recipe import Recipe, read_recipe
from mobileclip_deploy.learning.training.running import Trained, train
from mobileclip_deploy.learning.training.saving import LogRow

__all__ = ["LogRow", "Recipe", "Trained", "read_recipe", "train"]
