"""Molecules that the boundary of a periodic cell cuts, made whole: the dipole of a cell depends on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs, neighbor_list
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

BOND_TOLERANCE = 1.2  # a bond is shorter than this times the sum of the covalent radii
CATIONS = ("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba")
"""Bound by no bond: an ion stays where it is, whichever molecules happen to be near."""


def whole_molecules(symbols: Sequence[str], positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return positions with every molecule in one piece, beside its first atom.

    What is whole stays exactly as given, and so do cations and networks without an end (slabs, crystals).

    Parameters
    ----------
    symbols : [n_atoms].
    positions : [n_atoms, 3], Å.
    cell : [3, 3], rows, Å; periodic along all of them.
    """
    n_atoms = len(symbols)
    atoms = Atoms(symbols, positions, cell=cell, pbc=True)
    radii = natural_cutoffs(atoms, mult=BOND_TOLERANCE, **dict.fromkeys(CATIONS, 0.0))
    first, second, shifts = neighbor_list("ijS", atoms, radii)  # each bond in both directions
    graph = csr_array((np.ones(len(first)), (first, second)), shape=(n_atoms, n_atoms))
    molecule = connected_components(graph, directed=False)[1]
    shift_of = dict(zip(zip(first, second), shifts))
    images = np.zeros((n_atoms, 3), dtype=int)  # in units of the cell vectors
    for root in np.unique(molecule, return_index=True)[1]:
        order, previous = breadth_first_order(graph, root)
        for atom in order[1:]:
            images[atom] = images[previous[atom]] + shift_of[previous[atom], atom]
    is_open = (images[first] + shifts != images[second]).any(axis=1)
    images[np.isin(molecule, molecule[first[is_open]])] = 0
    return np.asarray(positions + images @ cell)
