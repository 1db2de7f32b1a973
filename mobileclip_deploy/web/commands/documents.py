"""The document that `demo` prints with --json, for the published schemas."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class DemoDocument(BaseModel):
    """`address`: of the page while it is served; `folder`: with --static, where it was written."""

    address: str | None
    folder: str | None


DOCUMENTS: dict[str, Any] = {"demo": DemoDocument}


def files() -> dict[str, str]:
    """Returns no further schemas."""
    return {}
