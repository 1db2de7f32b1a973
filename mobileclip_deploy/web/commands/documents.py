"""The documents that `demo` and `publish` print with --json, for the published schemas."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class DemoDocument(BaseModel):
    """Address of the page while it is served, and with --static the folder where it was written."""

    address: str | None
    folder: str | None


class PublishDocument(BaseModel):
    """Repository or folder, its commit and lock if something was uploaded, and the state of each file before it."""

    repository: str
    commit: str | None
    lock: str | None
    files: dict[str, Literal["new", "changed", "same", "removed"]]


DOCUMENTS: dict[str, Any] = {"demo": DemoDocument, "publish": PublishDocument}
