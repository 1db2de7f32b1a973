"""`precision='smallest'`: the smallest bundle that still passes its gates, searched from the smallest upward."""

from mobileclip_deploy.export.smallest.log import SearchLog
from mobileclip_deploy.export.smallest.search import NothingPasses, Smallest, find_smallest

__all__ = ["NothingPasses", "SearchLog", "Smallest", "find_smallest"]
