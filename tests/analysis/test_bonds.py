"""Neighbour pairs against those of ASE."""

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list

from qnep.analysis import Frame, bonds

CELLS = {
    "orthogonal": np.diag([40.0, 12.0, 9.0]),
    "triclinic": np.array([[9.0, 0.0, 0.0], [4.0, 12.0, 0.0], [-3.0, 5.0, 40.0]]),
    "left-handed": np.array([[0.0, 12.0, 1.0], [40.0, 0.0, 3.0], [0.0, 2.0, 9.0]]),
}


def in_order(i: np.ndarray, j: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Each pair as i, j and the vector from the smaller to the larger index, sorted."""
    sign = np.where(i < j, 1.0, -1.0)
    rows = np.column_stack([np.minimum(i, j), np.maximum(i, j), sign[:, None] * vectors])
    return rows[np.lexsort(np.round(rows, 6).T[::-1])]


def pairs_of_ase(frame: Frame, atoms: np.ndarray | None) -> np.ndarray:
    system = Atoms(positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    i, j, vectors = neighbor_list("ijD", system, 2.5)
    is_wanted = i < j  # no cell here is so small that an atom sees itself
    if atoms is not None:
        is_wanted &= np.isin(i, atoms) & np.isin(j, atoms)
    return in_order(i[is_wanted], j[is_wanted], vectors[is_wanted])


@pytest.mark.parametrize("pbc", [(True, True, True), (False, True, False), (True, False, True)])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("most_cells", [100_000, 50])
def test_every_pair_once(most_cells, cell, pbc, monkeypatch):
    """In one go, and slab by slab."""
    random = np.random.default_rng(3)
    n = 400
    positions = random.uniform(-0.7, 1.6, size=(n, 3)) @ CELLS[cell]  # many outside of the cell
    if not all(pbc):
        positions = random.uniform(0.0, 1.0, size=(n, 3)) @ CELLS[cell]
    frame = Frame(positions, np.full(n, 6), CELLS[cell], np.array(pbc))
    atoms = np.flatnonzero(random.uniform(size=n) < 0.7)
    monkeypatch.setattr(bonds, "MOST_CELLS", most_cells)
    for chosen in (None, atoms):
        found = in_order(*bonds.neighbor_pairs(frame, 2.5, chosen, vectors=True))
        expected = pairs_of_ase(frame, chosen)
        assert len(expected) > 200
        np.testing.assert_allclose(found, expected, atol=1e-9)
