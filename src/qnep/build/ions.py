"""Ions of a solid: which of its atoms leave together, and what goes with them so that it stays neutral."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.formula import Formula
from ase.neighborlist import natural_cutoffs, neighbor_list
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from qnep.build.crystals import BCC_METALS
from qnep.build.electrolyte import FORMULA_UNITS

BOND_SCALE = 1.15  # of the covalent radii; ions of the crystals here are twice as far apart

# e; "CO3--" as {"CO3": -2}
FORMAL_CHARGES = {
    Formula(name.rstrip("+-")).format("hill"): name.count("+") - name.count("-")
    for name in ("K+", *(ion for unit in FORMULA_UNITS.values() for ion in unit))
}


class SolidIons:
    """Ions of the salts among the parts of a solid; metals and carbon have none.

    Parameters
    ----------
    atoms : the structure.
    part : (n_atoms,) integer array; atoms of one crystal share a number, those below 0 belong to none.

    Attributes
    ----------
    ion : (n_atoms,) integer array; atoms of one ion share a number, -1 where there is no salt.
    charges : (n_ions,) array, e; formal ones, nan for a piece that is no known ion, as at the face of a crystal.
    """

    def __init__(self, atoms: Atoms, part: np.ndarray) -> None:
        self.ion = np.full(len(atoms), -1)
        charges: list[float] = []
        is_metal = np.isin(atoms.get_chemical_symbols(), list(BCC_METALS))
        for k in np.unique(part[part >= 0]):
            members = np.flatnonzero(part == k)
            if len(np.unique(is_metal[members])) < 2:
                continue
            labels = _bonded(atoms[members], is_metal[members])
            self.ion[members] = labels + len(charges)
            formulas = [
                atoms[members[labels == n]].get_chemical_formula() for n in range(labels.max() + 1)
            ]
            charges += [FORMAL_CHARGES.get(formula, np.nan) for formula in formulas]
        self.charges = np.array(charges)

    @property
    def is_known(self) -> np.ndarray:  # [n_atoms]
        """Whether the charge of an atom's ion is known, or it belongs to none."""
        return ~np.isnan(np.append(self.charges, 0.0))[self.ion]

    def neutral(self, goes: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """Return which atoms go with others so that whole ions go whose charges add up to zero.

        Parameters
        ----------
        goes : (n_atoms,) boolean array, what has to go.
        distances : (n_atoms,) array, Å; of the ions that may go, the nearest do.

        Raises
        ------
        ValueError : there is no ion left that could balance the charge.
        """
        leaving = set(self.ion[goes & (self.ion >= 0)].tolist())
        nearest = np.full(len(self.charges), np.inf)
        in_salt = self.ion >= 0
        np.minimum.at(nearest, self.ion[in_salt], distances[in_salt])
        order = np.argsort(nearest).tolist()
        while charge := self.charges[list(leaving)].sum():
            candidates = [k for k in order if k not in leaving and self.charges[k] * charge < 0]
            if not candidates:
                raise ValueError(
                    "the solid cannot stay neutral around what is inserted: too few ions are left in it"
                )
            leaving.add(candidates[0])
        return goes | np.isin(self.ion, list(leaving))


def _bonded(atoms: Atoms, is_metal: np.ndarray) -> np.ndarray:  # [n_atoms]
    """Number of the ion that each atom belongs to: metal atoms alone, others with what they are bonded to."""
    i, j = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=BOND_SCALE))
    is_bond = ~(is_metal[i] | is_metal[j])
    links = coo_array((np.ones(is_bond.sum()), (i[is_bond], j[is_bond])), shape=(len(atoms),) * 2)
    return connected_components(links, directed=False)[1]
