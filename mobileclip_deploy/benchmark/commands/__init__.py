"""Commands of the benchmark wing, which the entry points of pyproject.toml name."""
