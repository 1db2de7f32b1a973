"""Sweeps: checkpoints x targets x precisions x options, a verified bundle each, and one table of their figures."""
