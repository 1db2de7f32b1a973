"""Distillation of a text tower for other languages over parallel sentences; the image tower stays as it is."""
