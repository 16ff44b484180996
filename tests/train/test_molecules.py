"""Molecules across the boundary of the cell."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule

from qnep.train.molecules import whole_molecules

TRICLINIC = np.array([[10.0, 0.0, 0.0], [2.0, 10.0, 0.0], [-1.0, 3.0, 10.0]])


def make_whole(atoms: Atoms) -> np.ndarray:
    return whole_molecules(atoms.get_chemical_symbols(), atoms.positions, atoms.cell.array)


@pytest.mark.parametrize("cell", [10.0 * np.eye(3), TRICLINIC])
def test_molecules_anywhere_in_the_cell(cell):
    """Two waters and a chain of seven carbons, longer than half the cell, at fifty random places."""
    random = np.random.default_rng(4)
    chain = Atoms("C7", [[0.0, 0.8 * (k % 2), 1.25 * k] for k in range(7)])
    for _ in range(50):
        whole = Atoms(cell=cell, pbc=True)
        for part, corner in ((molecule("H2O"), 0.0), (molecule("H2O"), 0.5), (chain, 0.25)):
            part = part.copy()
            part.positions += (corner * np.array([1.0, 1.0, 0.0])) @ cell - part.positions[0]
            whole += part
        whole.positions += random.uniform(-20, 20, 3)
        np.testing.assert_array_equal(make_whole(whole), whole.positions)
        wrapped = whole.copy()
        wrapped.wrap()
        found = make_whole(wrapped)
        for part in (slice(0, 3), slice(3, 6), slice(6, 13)):
            expected = whole.positions[part] - whole.positions[part][0]
            np.testing.assert_allclose(found[part] - found[part][0], expected, atol=1e-12)
            np.testing.assert_array_equal(found[part][0], wrapped.positions[part][0])


@pytest.mark.parametrize(
    "atoms",
    [
        graphene(size=(3, 3, 1), vacuum=5.0),
        bulk("NaCl", "rocksalt", 5.6, cubic=True),
        bulk("Na", "bcc", 4.2),
        bulk("Cu", "fcc", 3.6),
    ],
    ids=lambda atoms: atoms.get_chemical_formula(),
)
def test_what_has_no_end_stays_where_it_is(atoms):
    np.testing.assert_array_equal(make_whole(atoms), atoms.positions)


def test_an_ion_stays_beside_any_molecule():
    """Sodium 2.3 Å from an oxygen, across the boundary: no bond, so its charge is not moved by a cell vector."""
    pair = Atoms("ONa", [[0.5, 1.0, 1.0], [8.2, 1.0, 1.0]], cell=10.0 * np.eye(3), pbc=True)
    np.testing.assert_array_equal(make_whole(pair), pair.positions)
