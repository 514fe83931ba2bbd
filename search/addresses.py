"""Addresses of results: what is asked for where, as a query string says it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from django.urls import reverse

from catalog.models import Collection
from catalog.querysets import Viewer
from search.querying import SearchOptions

FIRST_RESULTS = 20


@dataclass(frozen=True, slots=True)
class Filters:
    """What an address asks for. ``region`` is an index into the query's regions, None: the best that may be used."""

    collection: Collection | None = None
    label: str = ""
    k: int = FIRST_RESULTS
    near: bool = False
    region: int | None = None

    def options(self, viewer: Viewer) -> SearchOptions:
        """One result more than is shown, to know whether there are more."""
        return SearchOptions(
            viewer=viewer,
            k=self.k + 1,
            collections=(self.collection,) if self.collection else None,
            label=self.label,
            beyond_near=self.near,
        )

    @property
    def narrows(self) -> bool:
        return bool(self.collection or self.label)

    @property
    def scope(self) -> Filters:
        """The collection and the label alone: what stays when something else is searched with."""
        return Filters(self.collection, self.label)

    @property
    def start_href(self) -> str:
        """Where another photo is put in, for the same filters."""
        return Place(reverse("page"), self.scope).href()


@dataclass(frozen=True, slots=True)
class Place:
    """An address of results, and what can be said in its query string."""

    path: str
    filters: Filters

    def href(self, filters: Filters | None = None) -> str:
        filters = filters or self.filters
        said: dict[str, object] = {}
        if filters.region is not None:
            said["region"] = filters.region
        if filters.collection:
            said["collection"] = filters.collection.name
        if filters.label:
            said["label"] = filters.label
        if filters.near:
            said["near"] = 1
        if filters.k != FIRST_RESULTS:
            said["k"] = filters.k
        return f"{self.path}?{urlencode(said)}" if said else self.path
