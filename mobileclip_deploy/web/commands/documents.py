"""The document that `demo` prints with --json, for the published schemas."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class DemoDocument(BaseModel):
    """Address of the page while it is served, and with --static the folder where it was written."""

    address: str | None
    folder: str | None


DOCUMENTS: dict[str, Any] = {"demo": DemoDocument}
