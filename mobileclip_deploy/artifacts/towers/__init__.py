"""Towers: what is exported of a folded model, and the inputs that it is measured on."""
