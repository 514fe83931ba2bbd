"""What lists are made of: text in UTF-8, of a bounded size."""

from __future__ import annotations

from catalog.intake.errors import ListRefused, Problem

MOST_BYTES = 50 * 1024 * 1024
UTF16 = (b"\xff\xfe", b"\xfe\xff")


def text_of(content: bytes | str) -> str:
    """The text without a BOM. Raises ListRefused for what is too large, in another encoding, or has NUL in it."""
    if len(content) > MOST_BYTES:
        raise _refused(f"The list is larger than {MOST_BYTES // 2**20} MB. Divide it.")
    text = content if isinstance(content, str) else _decoded(content)
    if "\x00" in text:
        raise _refused("The list has NUL bytes in it, so it is no text. Save it as text (UTF-8).")
    return text.removeprefix("\ufeff")


def lines_of(content: bytes | str) -> list[str]:
    """As editors count them: str.splitlines knows of more ends than those. Raises ListRefused, as `text_of`."""
    return text_of(content).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _decoded(content: bytes) -> str:
    if content.startswith(UTF16):
        raise _refused("The list is encoded as UTF-16. Save it as UTF-8 (in Excel: “CSV UTF-8”).")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refused(f"Line {line} is not in UTF-8. Save the list as UTF-8 (in Excel: “CSV UTF-8”).") from error


def _refused(reason: str) -> ListRefused:
    return ListRefused([Problem(0, reason)])
