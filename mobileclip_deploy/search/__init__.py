"""After the towers: embeddings stored in an index, and searched exactly."""

from __future__ import annotations

from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.storage import STORES, Store

__all__ = ["STORES", "Index", "Store"]
