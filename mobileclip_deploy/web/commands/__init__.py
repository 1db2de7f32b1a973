"""Commands of the web wing, which the entry points of pyproject.toml name."""
