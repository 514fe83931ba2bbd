"""Files from addresses that others wrote down, fetched through one guard. Knows no Django model."""

from catalog.fetching.addresses import host_of
from catalog.fetching.errors import FetchFailed, FetchRefused
from catalog.fetching.guard import Fetched, fetch
from catalog.fetching.rules import Rules

__all__ = ["FetchFailed", "FetchRefused", "Fetched", "Rules", "fetch", "host_of"]
