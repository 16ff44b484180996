"""Lines of a plain or gzipped file, read forward only, honest about a cut end."""

from __future__ import annotations

import io
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

_BLOCK = 1 << 18


class _ForgivingGzip(io.RawIOBase):
    """A gzip stream that hands out all there is of a file that was cut off.

    ``gzip.open`` throws away the block in which the end is missing.
    """

    def __init__(self, raw: io.BufferedReader):
        self._raw = raw
        self._decompressor = zlib.decompressobj(wbits=31)
        self.is_cut = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted = len(buffer)
        while True:
            data = self._decompressor.unconsumed_tail or self._next_block()
            if not data:
                self.is_cut = not self._decompressor.eof
                return 0
            text = self._decompressor.decompress(data, wanted)
            if text:
                buffer[: len(text)] = text
                return len(text)

    def _next_block(self) -> bytes:
        """Return the next compressed bytes; a file may hold several members."""
        if not self._decompressor.eof:
            return self._raw.read(_BLOCK)
        rest = self._decompressor.unused_data or self._raw.read(_BLOCK)
        if rest:
            self._decompressor = zlib.decompressobj(wbits=31)
        return rest


class TextSource:
    """A text file read line by line or by blocks of lines.

    Attributes
    ----------
    line_number : of the last line read, from 1.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._raw = self.path.open("rb")
        self.size = self.path.stat().st_size
        self._gzip: _ForgivingGzip | None = None
        self._lines: io.BufferedReader = self._raw
        if self._raw.peek(2)[:2] == b"\x1f\x8b":
            self._gzip = _ForgivingGzip(self._raw)
            self._lines = io.BufferedReader(self._gzip, _BLOCK)
        self.line_number = 0

    def line(self) -> str:
        """Return the next line without its end; an empty string at the end of the file.

        An empty line in the file comes back as a line break, so that the two differ.
        """
        raw = self._lines.readline()
        self.line_number += bool(raw)
        text = raw.decode("utf-8", errors="replace")
        return text if text == "\n" else text.rstrip("\r\n")

    def block(self, n_lines: int) -> bytes | None:
        """Return the next lines as bytes; None where the file ends before or within them."""
        lines = list(islice(self._lines, n_lines))
        self.line_number += len(lines)
        if len(lines) < n_lines or (lines and not lines[-1].endswith(b"\n")):
            return None
        return b"".join(lines)

    @property
    def fraction_read(self) -> float:
        """How far into the file (0 to 1), by the bytes on disk."""
        if self._raw.closed or not self.size:
            return 1.0
        try:
            return self._raw.tell() / self.size
        except (OSError, ValueError):  # closed in between, by the thread that reads
            return 1.0

    @property
    def is_cut(self) -> bool:
        """Did a compressed file end before its end mark?"""
        return self._gzip is not None and self._gzip.is_cut

    def close(self) -> None:
        """Close the file."""
        self._raw.close()
