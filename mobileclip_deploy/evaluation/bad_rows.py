"""Rows of a dataset that cannot be used: the first is refused, or all are left out and counted."""

from __future__ import annotations

from mobileclip_deploy.errors import InvalidInput

__all__ = ["BadRows"]


class BadRows:
    """What was found wrong, a line each; `skip` says whether a bad row is left out or refused."""

    def __init__(self, skip: bool) -> None:
        self.skip = skip
        self.found: list[str] = []

    def add(self, text: str) -> None:
        """One row cannot be used.

        Args:
            text: names the file and the row, and what is wrong with it.

        Raises:
            InvalidInput: bad rows are not to be left out.
        """
        if not self.skip:
            raise InvalidInput(f"{text}; correct it, or leave such rows out with `skip_bad=True`")
        self.found.append(text)
