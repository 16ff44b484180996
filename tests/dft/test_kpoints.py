"""Grids of k-points."""

from __future__ import annotations

import numpy as np
import pytest

from qnep.dft.kpoints import format_grid, kpoint_grid, parse_grid


@pytest.mark.parametrize(
    ("lengths", "spacing", "grid"),
    [
        ((8.5, 8.5, 15.0), 0.07, (2, 2, 1)),  # 1 / (8.5 · 0.07) = 1.68; 1 / (15 · 0.07) = 0.95
        ((8.4, 8.4, 8.4), 0.04, (3, 3, 3)),  # 2.98
        ((10.0, 5.0, 2.5), 0.1, (1, 2, 4)),  # whole numbers stay
    ],
)
def test_grid_by_hand(lengths, spacing, grid):
    assert kpoint_grid(np.diag(lengths), spacing) == grid


def test_grid_of_hexagonal_cell_uses_plane_distances():
    """The reciprocal vector of a hexagonal cell of side a is 2/(√3 a): 1.155/(4 · 0.1) = 2.89."""
    cell = np.array([[4.0, 0, 0], [-2.0, 2 * np.sqrt(3), 0], [0, 0, 20.0]])
    assert kpoint_grid(cell, 0.1) == (3, 3, 1)


def test_grid_text_round_trip():
    assert parse_grid(format_grid((2, 3, 1))) == (2, 3, 1)


@pytest.mark.parametrize("text", ["2x2", "axbxc", "0x1x1", ""])
def test_bad_grid_text(text):
    with pytest.raises(ValueError, match="k-point grid"):
        parse_grid(text)


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan")])
def test_bad_spacing(spacing):
    with pytest.raises(ValueError, match="must be positive"):
        kpoint_grid(np.eye(3), spacing)


@pytest.mark.parametrize(
    ("pbc", "grid"),
    [((True, True, True), (2, 2, 1)), ((True, False, True), (2, 1, 1)), ((False,) * 3, (1, 1, 1))],
)
def test_one_point_where_nothing_repeats(pbc, grid):
    """A box of 8, 8 and 20 Å; 0.07 asks for two points along 8 Å."""
    assert kpoint_grid(np.diag([8.0, 8.0, 20.0]), 0.07, pbc) == grid
