"""Grids of k-points from a spacing, and their spelling in files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def kpoint_grid(
    cell: np.ndarray, spacing: float, pbc: Sequence[bool] = (True, True, True)
) -> tuple[int, int, int]:
    """Return the smallest grid whose spacing along each reciprocal vector is at most `spacing`.

    Parameters
    ----------
    cell : (3, 3) array, Å; vectors are rows.
    spacing : in units of 2π/Å, so 0.07 asks for two points along 8.5 Å. VASP's KSPACING is 2π times this.
    pbc : whether the structure is periodic along each vector; where it is not there is one point.

    Raises
    ------
    ValueError : a spacing that is not positive.
    """
    if not spacing > 0:
        raise ValueError(f"k-point spacing must be positive (in 2π/Å), got {spacing:g}")
    reciprocal_lengths = np.linalg.norm(np.linalg.inv(cell), axis=0)
    counts = np.ceil(np.round(reciprocal_lengths / spacing, 6)).astype(int)
    n1, n2, n3 = (int(count) for count in np.where(pbc, np.maximum(counts, 1), 1))
    return n1, n2, n3


def format_grid(grid: tuple[int, int, int]) -> str:
    """Write (2, 2, 1) as "2x2x1"."""
    return "x".join(str(count) for count in grid)


def parse_grid(text: str) -> tuple[int, int, int]:
    """Read "2x2x1" as (2, 2, 1).

    Raises
    ------
    ValueError : anything but three positive whole numbers joined by x.
    """
    try:
        n1, n2, n3 = (int(word) for word in text.lower().split("x"))
    except ValueError:
        raise ValueError(f"a k-point grid is written like 2x2x1, got {text!r}") from None
    if min(n1, n2, n3) < 1:
        raise ValueError(f"a k-point grid needs at least one point along each vector, got {text!r}")
    return n1, n2, n3
