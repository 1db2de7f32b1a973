"""Towers: the exported parts of a folded model, and the inputs that they are measured on."""
