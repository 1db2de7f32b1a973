"""Commands of the training wing, which the entry points of pyproject.toml name."""
