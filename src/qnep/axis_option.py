"""Axes on the command line: by letter or by number, the same in every command."""

from __future__ import annotations

import argparse

AXES = "xyz"


def parse_axis(text: str) -> int:
    """Return 0, 1 or 2 of an axis written as x, y, z or as its number; the ``type`` of an argparse option.

    Raises
    ------
    argparse.ArgumentTypeError : for anything else.
    """
    text = text.strip().lower()
    if len(text) == 1 and text in AXES:
        return AXES.index(text)
    if text in ("0", "1", "2"):
        return int(text)
    raise argparse.ArgumentTypeError(f"an axis is x, y or z, or 0, 1 or 2, got {text!r}")
