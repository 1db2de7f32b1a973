"""Documents that the commands of this wing print with --json, for the published schemas."""

from __future__ import annotations

from typing import Any

from mobileclip_deploy.search.bridging import BridgeResult
from mobileclip_deploy.search.embedding_files import EmbeddingFile
from mobileclip_deploy.search.library import IndexFile
from mobileclip_deploy.search.searching import SearchResult

DOCUMENTS: dict[str, Any] = {
    "embed": EmbeddingFile | IndexFile,
    "search": SearchResult,
    "bridge": BridgeResult,
}
