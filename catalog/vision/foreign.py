"""Files that are an image and something else at once: a web page, a program in PHP, a PDF or a ZIP archive.

Cameras put films, further images and notes of their own behind an image, so what follows its end is no reason to refuse
one. What is looked for are the marks by which other programs would take the file for theirs, wherever they read them.
"""

from __future__ import annotations

import os
import re
import struct
from typing import BinaryIO

_STEP = 1 << 20  # bytes that are searched at once
_LONGEST = 64  # bytes that a mark may have: so much of a step is searched again with the next one

# Long enough, each, that compressed pixels do not spell one: 50 MB do so once in some thirty thousand files.
_PAGE = re.compile(rb"<(?i:script[\s>]|html[\s>]|!doctype\s{1,9}html|iframe\s|\?php\s)")
# PHP's short tags have three bytes, so what follows must read as a program: as much text as pixels do not look like, or
# less of it up to the closing tag or the end of the file, which closes, too.
_SHORT_PHP = re.compile(rb"<\?[=\s](?:[\s\x20-\x7e]{20}|[\s\x20-\x7e]{4,20}?(?:\?>|\Z))")
_PDF = re.compile(rb"%PDF-[12]\.\d")

# End of the central directory (PKWARE APPNOTE 6.3.10, 4.3.16), which is where programs begin to read: it stands within
# the longest comment of the end, and says where the directory is.
_ZIP_END, _ZIP_ENTRY = b"PK\5\6", b"PK\1\2"
_ZIP_END_SIZE, _LONGEST_COMMENT = 22, 0xFFFF
# Of an archive of the form for large ones (4.3.15), right before that end. Programs look for it whatever the end says.
_ZIP64_LOCATOR, _ZIP64_LOCATOR_SIZE = b"PK\6\7", 20


def foreign_content(file: BinaryIO) -> str | None:
    """What else the file is, in words that follow "holds", or None. Reads all of it; its position is undefined."""
    file.seek(0)
    kept = b""
    while step := file.read(_STEP):
        data = kept + step
        page = _PAGE.search(data)
        if _SHORT_PHP.search(data) or (page and page[0][1:2] == b"?"):
            return "a program in PHP"
        if page:
            return "a web page"
        if _PDF.search(data):
            return "a PDF"
        kept = data[-_LONGEST:]
    return "a ZIP archive" if _ends_as_zip(file) else None


def _ends_as_zip(file: BinaryIO) -> bool:
    size = file.seek(0, os.SEEK_END)
    begin = file.seek(max(0, size - _ZIP_END_SIZE - _LONGEST_COMMENT))
    tail = file.read()
    at = tail.rfind(_ZIP_END)
    while at >= 0:
        if _is_zip_end(file, tail[at : at + _ZIP_END_SIZE], begin + at):
            return True
        at = tail.rfind(_ZIP_END, 0, at)
    return False


def _is_zip_end(file: BinaryIO, end: bytes, at: int) -> bool:
    """Whether it is that of an empty archive, or of a large one, or there is a directory where programs look for it.

    That is right before it, as others put the archive behind something, or where it says.
    """
    if len(end) < _ZIP_END_SIZE:
        return False
    entries, directory_size, directory = (int(each) for each in struct.unpack_from("<HLL", end, 10))
    if entries == 0 and directory_size == 0:
        return True
    places = ((at - _ZIP64_LOCATOR_SIZE, _ZIP64_LOCATOR), (at - directory_size, _ZIP_ENTRY), (directory, _ZIP_ENTRY))
    return any(_stands_at(file, place, mark) for place, mark in places)


def _stands_at(file: BinaryIO, place: int, mark: bytes) -> bool:
    if place < 0:
        return False
    file.seek(place)
    return file.read(len(mark)) == mark
