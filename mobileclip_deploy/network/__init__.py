"""The network: its variants, its checkpoints, and the folding of its branches."""
