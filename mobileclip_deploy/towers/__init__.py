"""Towers: what is exported of a folded model, and the inputs that it is measured on."""

from mobileclip_deploy.towers.tower import ImageTower, TextTower, example_input, make_tower

__all__ = ["ImageTower", "TextTower", "example_input", "make_tower"]
