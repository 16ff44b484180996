"""The neighbour list against a plain enumeration of images, and when it is rebuilt."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from qnep.neighbors import VerletList

CELLS = {
    "cubic": np.diag([7.0, 7.0, 7.0]),
    "thin": np.diag([9.0, 8.0, 0.9]),
    "triclinic": np.array([[5.0, 0.3, -0.4], [2.4, 6.0, 0.2], [-1.9, 2.5, 4.0]]),
    "left-handed": np.array([[0.0, 6.0, 0.5], [5.0, 0.0, 0.0], [0.2, 0.3, 7.0]]),
}


def distances_by_images(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> np.ndarray:
    """Sorted distances of all directed pairs within the cutoff, over more images than can matter."""
    thickness = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    spread = np.linalg.norm(np.ptp(positions, axis=0))
    ranges = [
        range(-n, n + 1) if periodic else range(1)
        for n, periodic in zip(np.ceil((cutoff + spread) / thickness).astype(int), pbc)
    ]
    shifts = np.array(list(itertools.product(*ranges))) @ cell
    vectors = positions[None, :, None] - positions[:, None, None] + shifts  # [i, j, shift, 3]
    distances = np.linalg.norm(vectors, axis=-1).ravel()
    return np.sort(distances[(distances > 1e-8) & (distances < cutoff)])


def distances_of(
    neighbors: VerletList, positions: np.ndarray, cell: np.ndarray, cutoff: float
) -> np.ndarray:
    """Sorted distances of the list's pairs within the cutoff."""
    vectors = (
        positions[neighbors.second] - positions[neighbors.first] + neighbors.shifts @ cell
    )  # [n_pairs, 3]
    distances = np.linalg.norm(vectors, axis=1)
    return np.sort(distances[distances < cutoff])


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 0, 1), (0, 0, 0)])
@pytest.mark.parametrize("name", CELLS)
def test_pairs_are_those_of_an_enumeration(name, pbc, generator):
    """Equal to 1e-12 Å: rounding of a few additions. Atoms stand inside and outside the cell."""
    cell, pbc = CELLS[name], np.array(pbc, bool)
    positions = generator.uniform(-0.5, 1.5, size=(5, 3)) @ cell
    neighbors = VerletList(cutoff=4.0, skin=0.5)
    neighbors.update(positions, cell, pbc)
    expected = distances_by_images(positions, cell, pbc, 4.0)
    np.testing.assert_allclose(distances_of(neighbors, positions, cell, 4.0), expected, atol=1e-12)


def test_small_moves_keep_the_list_and_lose_no_pair(generator):
    """A random walk with a skin of 0.8 Å: rebuilt now and then, complete at every step."""
    cell, pbc = CELLS["triclinic"], np.ones(3, bool)
    positions = generator.uniform(size=(12, 3)) @ cell
    neighbors = VerletList(cutoff=3.5, skin=0.8)
    for _ in range(40):
        positions = positions + generator.normal(scale=0.04, size=positions.shape)
        neighbors.update(positions, cell, pbc)
        expected = distances_by_images(positions, cell, pbc, 3.5)
        np.testing.assert_allclose(
            distances_of(neighbors, positions, cell, 3.5), expected, atol=1e-12
        )
    assert 1 < neighbors.n_builds < 20


def test_a_breathing_cell_keeps_the_list_and_loses_no_pair(generator):
    """Strains of up to 4 % and small moves: fewer builds than steps, complete at every step."""
    reference, pbc = CELLS["triclinic"], np.ones(3, bool)
    fractions = generator.uniform(size=(12, 3))
    neighbors = VerletList(cutoff=3.5, skin=0.8)
    for step in range(40):
        strain = 0.04 * np.sin(0.2 * step) * np.array([[1, 0.3, 0], [0.3, -0.5, 0], [0, 0, 0.8]])
        cell = reference @ (np.eye(3) + strain)
        positions = fractions @ cell + generator.normal(scale=0.02, size=(12, 3))
        neighbors.update(positions, cell, pbc)
        expected = distances_by_images(positions, cell, pbc, 3.5)
        np.testing.assert_allclose(
            distances_of(neighbors, positions, cell, 3.5), expected, atol=1e-12
        )
    assert 1 <= neighbors.n_builds < 20


def test_a_jump_across_the_boundary_rebuilds():
    """An atom wrapped into the cell has the same neighbours under other shifts."""
    cell, pbc = CELLS["cubic"], np.ones(3, bool)
    positions = np.array([[6.9, 1.0, 1.0], [5.5, 1.0, 1.0]])
    neighbors = VerletList(cutoff=3.0, skin=0.5)
    assert neighbors.update(positions, cell, pbc)
    assert not neighbors.update(positions + 0.1, cell, pbc)
    wrapped = positions.copy()
    wrapped[0, 0] -= 7.0
    assert neighbors.update(wrapped, cell, pbc)
    np.testing.assert_allclose(distances_of(neighbors, wrapped, cell, 3.0), [1.4, 1.4], atol=1e-12)


@pytest.mark.parametrize(
    ("positions", "cell", "text"),
    [
        ([[0, 0, np.nan]], np.eye(3) * 9, "must be finite .* for atom 0"),
        ([[0, 0, 0], [0, np.inf, 0]], np.eye(3) * 9, "must be finite .* for atom 1"),
        ([[0, 0, 1e9]], np.eye(3) * 9, "below 1e\\+08 Å"),
        ([[0, 0, 0]], np.diag([5.0, 5.0, 0.0]), "needs a volume"),
        ([[0, 0, 0]], np.array([[5, 0, 0], [0, 5, 0], [5, 5, 0]]), "needs a volume"),
        ([[0, 0, 0]], np.full((3, 3), np.nan), "cell must be finite"),
        ([[0, 0, 0]], np.diag([5.0, 5.0, 1e5]), "must not extend beyond 20000 Å, got 100000 Å"),
        ([[0, 0, 0]], np.eye(3) * 1e-3, "are these lengths in Å"),
        ([[1, 1, 1], [1, 1, 1]], np.eye(3) * 9, "atoms 0 and 1 stand at one place"),
        ([[1, 1, 1], [1, 1, 10]], np.eye(3) * 9, "atoms 0 and 1 stand at one place"),
        (np.zeros((0, 3)), np.eye(3), "no atoms"),
    ],
)
def test_impossible_geometry_is_refused(positions, cell, text):
    with pytest.raises(ValueError, match=text):
        VerletList(cutoff=5.0, skin=0.5).update(
            np.array(positions, float), np.array(cell, float), np.ones(3, bool)
        )


@pytest.mark.parametrize(
    ("cutoff", "skin"), [(0.0, 0.5), (np.nan, 0.5), (5.0, -0.1), (5.0, np.inf)]
)
def test_impossible_settings_are_refused(cutoff, skin):
    with pytest.raises(ValueError, match="of a neighbour list must"):
        VerletList(cutoff, skin)


def test_a_refused_geometry_leaves_the_list_whole(generator):
    """The pairs are those of the geometry before, for which the list still holds."""
    cell, pbc = CELLS["triclinic"], np.ones(3, bool)
    positions = generator.uniform(size=(12, 3)) @ cell
    neighbors = VerletList(cutoff=3.5, skin=0.8)
    neighbors.update(positions, cell, pbc)
    before = distances_of(neighbors, positions, cell, 3.5)
    coincident = positions.copy()
    coincident[0] = coincident[1]
    with pytest.raises(ValueError, match="stand at one place"):
        neighbors.update(coincident, cell, pbc)
    assert not neighbors.update(positions, cell, pbc)
    assert len(neighbors.first) == len(neighbors.second) == len(neighbors.shifts)
    np.testing.assert_array_equal(distances_of(neighbors, positions, cell, 3.5), before)
