"""Files from addresses that others wrote down, fetched through one guard. Knows no Django model."""

from catalog.fetching.addresses import host_of
from catalog.fetching.errors import FetchFailed, FetchRefused
from catalog.fetching.guard import Fetched, fetch

__all__ = ["FetchFailed", "FetchRefused", "Fetched", "fetch", "host_of"]
