"""What a search can say no to. ``code`` is stable; ``str()`` says what to do."""

from __future__ import annotations


class SearchError(Exception):
    """Base of this module."""

    code = "search-error"


class UnknownPipeline(SearchError):
    """No pipeline of that name is set up."""

    code = "unknown-pipeline"


class FacesNotAllowed(SearchError):
    """Faces were asked for, and there is no collection in which this viewer may search them."""

    code = "faces-not-allowed"


class FaceOutOfRange(SearchError):
    """``face`` is no index into the query's regions."""

    code = "face-out-of-range"


class NothingToSearchWith(SearchError):
    """The stored image or region has no vector (yet)."""

    code = "not-searchable"


class NothingToCompare(NothingToSearchWith):
    """The vector is one that no index can answer for: of length zero or nearly, too long, or not finite."""

    code = "no-embedding"


class QueryOutdated(Exception):
    """Another model serves than the one that a kept query's vector comes from (the page alone keeps queries)."""
