"""Commands of the search wing, which the entry points of pyproject.toml name."""
