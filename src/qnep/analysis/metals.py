"""Which atoms of a metallic element are metal, and which are ions."""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols

from qnep.analysis.bond_cutoffs import METALS, BondCutoffs, Kind, PairTable
from qnep.analysis.bonds import Pairs, neighbor_pairs
from qnep.analysis.frame import Frame

METAL_CONTACTS = 1  # an atom of a metal touches no more atoms of nonmetal than this ...
METAL_NEIGHBORS = 3  # ... and at least this many other such atoms

_IS_METAL = np.array([symbol in METALS for symbol in chemical_symbols])


def is_metal(numbers: np.ndarray) -> np.ndarray:
    """Return a mask of the atoms of metallic elements, [n_atoms]."""
    return _IS_METAL[numbers]


def metallic_atoms(frame: Frame, cutoffs: BondCutoffs, pairs: Pairs | None = None) -> np.ndarray:
    """Return the indices of the atoms that belong to a metal.

    Such an atom touches at most one atom of nonmetal (carbon and hydrogens of molecules not counted: they
    lie on a metal without making ions of it) and has at least three neighbours of metal of which the
    same holds, by the form distances. So bcc and close-packed metals count with their surfaces and under a
    solvent; the cations of NaF, Na2O or Na2CO3, which touch many anions, do not, nor does an ion on them.

    Parameters
    ----------
    pairs : neighbours up to the contact distance, where they are known already.
    """
    metals = np.flatnonzero(is_metal(frame.numbers))
    if len(metals) <= METAL_NEIGHBORS:
        return np.empty(0, dtype=np.int64)
    contact = cutoffs.table(frame.numbers, [Kind.CONTACT])
    metallic = cutoffs.table(frame.numbers, [Kind.METALLIC])
    if pairs is None:
        pairs = neighbor_pairs(frame, float(contact.form.max()))
    i, j, distance = pairs
    is_inert = _inert_atoms(frame.numbers, pairs, cutoffs.table(frame.numbers, [Kind.COVALENT]))
    counts = ~(is_inert[i] | is_inert[j])
    contacts = near_neighbors(frame.numbers, (i[counts], j[counts], distance[counts]), contact)
    is_bare = contacts <= METAL_CONTACTS
    bare = metals[is_bare[metals]]
    metal_pairs = neighbor_pairs(frame, float(metallic.form.max()), bare)
    return bare[near_neighbors(frame.numbers, metal_pairs, metallic)[bare] >= METAL_NEIGHBORS]


def _inert_atoms(numbers: np.ndarray, pairs: Pairs, covalent: PairTable) -> np.ndarray:
    """Return a mask [n_atoms] of carbon and of hydrogen in molecules (not of hydride ions)."""
    is_bonded = near_neighbors(numbers, pairs, covalent) > 0
    return (numbers == 6) | ((numbers == 1) & is_bonded)


def near_neighbors(numbers: np.ndarray, pairs: Pairs, table: PairTable) -> np.ndarray:
    """Return the number of neighbours within the form distances of a table, [n_atoms]."""
    i, j, distance = pairs
    element = table.index_of_number[numbers]
    is_near = distance < table.form[element[i], element[j]]
    n = len(numbers)
    return np.bincount(i[is_near], minlength=n) + np.bincount(j[is_near], minlength=n)
