"""Why an address brought no file. Both kinds carry a stable code, and a sentence that says what to do.

What a server says of itself (banners, reason phrases, bodies) and what a name resolves to is in none of them: whoever
asks for an address may not be somebody who may know.
"""

from __future__ import annotations


class FetchRefused(Exception):
    """The same address will be answered the same when it is asked again.

    ``code``: address-malformed, scheme-not-allowed, userinfo-in-address, ip-ambiguous, port-not-allowed,
    address-not-public, too-many-redirects, redirect-to-http, certificate-invalid, headers-too-large,
    not-found, access-denied, request-refused, unexpected-status, wrong-type, encoding-not-supported, too-many-bytes,
    empty-file.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class FetchFailed(Exception):
    """It may go well later.

    ``code``: name-not-resolved, no-connection, timed-out, cut-off, bad-answer, server-error, slow-down, no-room.
    ``retry_after``: seconds that the server asks to be left alone for, or None where it does not say.
    """

    def __init__(self, code: str, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.retry_after = retry_after
