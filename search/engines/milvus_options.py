"""What the settings say of Milvus: what makes an index (OPTIONS), and how a server is reached (CONNECTION).

They are kept apart because options are recorded with every generation and shown to staff, and a connection, which may
hold a token, never is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from search.engines.options import TARGET_RECALL, Choice, Number, Option, Whole, checked_options

OPTIONS: Mapping[str, Option] = {
    "index": Choice(("HNSW", "FLAT")),
    "m": Whole(16, 2, 100),
    "ef_construction": Whole(200, 10, 2000),
    "target_recall": TARGET_RECALL,
}


@dataclass(frozen=True, slots=True)
class Text:
    """Words of a given form."""

    default: str
    pattern: str
    allowed: str

    def allows(self, value: object) -> bool:
        return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None


CONNECTION: Mapping[str, Option] = {
    # A name and password in the address would be logged with it: they are given as the token "name:password".
    "uri": Text("", r"https?://[^@\s]+", "the address of a server, such as 'http://milvus:19530', without a password"),
    "database": Text("", r"[A-Za-z0-9_]*", "the name of a database of the server"),
    "prefix": Text("visearch", r"[A-Za-z_][A-Za-z0-9_]{0,63}", "a name of letters, digits and underscores"),
    "timeout": Number(5.0, 0.1, 600.0),
    "consistency": Choice(("Bounded", "Strong", "Eventually")),
    "batch": Whole(2_000, 1, 16_384),
}


@dataclass(frozen=True, slots=True)
class Connection:
    """How a Milvus server is reached.

    ``token``: a key, or ``name:password``. ``prefix`` begins the name of everything that is made there, so that several
    sites can share a server. ``timeout``: seconds that a query waits. ``consistency`` of queries: a generation does not
    change once it is published, so that the default loses nothing. ``batch``: rows that are sent or fetched at once.
    """

    uri: str
    database: str
    prefix: str
    timeout: float
    consistency: str
    batch: int
    token: str = field(default="", repr=False)


def check_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """See IndexEngine.check_options. Raises ValueError also where pymilvus is not installed."""
    if find_spec("pymilvus") is None:
        raise ValueError("pymilvus is not installed: pip install -r requirements/milvus.txt")
    return checked_options(OPTIONS, given)


def check_connection(given: Mapping[str, Any]) -> Connection:
    """Raises ValueError for an unknown entry or a bad value, and never repeats a token."""
    token = given.get("token", "")
    if not isinstance(token, str) or re.search(r"\s", token):
        raise ValueError("token is text without spaces")
    return Connection(**checked_options(CONNECTION, {k: v for k, v in given.items() if k != "token"}), token=token)
