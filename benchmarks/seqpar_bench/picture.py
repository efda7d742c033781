"""Which record a picture was drawn from, written into the PNG itself and read back without any library.

The programs that draw put `metadata(...)` of what they draw into the file; `docs/write.py` and a test compare it with the record.
"""

import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

KEY = "seqpar-record"
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def metadata(drawn: Any) -> dict[str, str | None]:
    """For matplotlib's `savefig`. Without the software's version the same record gives the same bytes again."""
    return {"Software": None, KEY: digest(drawn)}


def digest(drawn: Any) -> str:
    """Of the parts of a record that a picture shows, whatever else stands in it."""
    return hashlib.sha256(json.dumps(drawn, sort_keys=True).encode()).hexdigest()


def drawn_from(path: Path) -> str | None:
    """The digest in a PNG; None if it has none, is damaged or does not exist."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if not content.startswith(SIGNATURE):
        return None
    # Chunks: length, four letters, content, checksum of letters and content.
    start = len(SIGNATURE)
    while start + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, start)
        body, checksum = (
            content[start + 4 : start + 8 + length],
            content[start + 8 + length : start + 12 + length],
        )
        if checksum != struct.pack(">I", zlib.crc32(body)):
            return None
        keyword, _, value = body[4:].partition(b"\0")
        if body[:4] == b"tEXt" and keyword == KEY.encode():
            return value.decode("latin-1")
        start += 12 + length
    return None
