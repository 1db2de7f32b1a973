"""Export: from a checkpoint to verified bundles."""
