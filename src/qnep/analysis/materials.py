"""What every atom of an interface is part of: metal, inorganic or organic product, electrolyte, gas."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from qnep.analysis.bond_cutoffs import BondCutoffs, Kind
from qnep.analysis.bonds import neighbor_pairs, raw_bonds
from qnep.analysis.frame import Frame
from qnep.analysis.metals import is_metal, metallic_atoms
from qnep.analysis.molecules import MoleculeTracker, Species


class Material(IntEnum):
    """Classes of atoms, in the order from the metal to the electrolyte."""

    METAL = 0
    INORGANIC = 1
    ORGANIC = 2
    ELECTROLYTE = 3
    GAS = 4


_OF_ROLE = {
    "metal": Material.METAL,
    "inorganic": Material.INORGANIC,
    "organic": Material.ORGANIC,
    "gas": Material.GAS,
}


class MaterialSorter:
    """Sorts the atoms of frames into materials.

    Solvents and salt anions are electrolyte; known and unknown products are organic if they hold C and H, else
    inorganic; gases are gases. A cation is inorganic if it touches an inorganic anion, else organic if it touches
    an organic molecule with a contact distance, else electrolyte. Bonds are those of the frame alone,
    by form distances, so a bond in the act of breaking counts as broken.

    Parameters
    ----------
    cutoffs : bond distances.
    """

    def __init__(self, cutoffs: BondCutoffs | None = None):
        self.cutoffs = cutoffs or BondCutoffs()
        self._tracker: MoleculeTracker | None = None
        self._of_species = np.empty(0, dtype=np.int64)

    @property
    def species(self) -> list[Species]:
        """All species met so far."""
        return [] if self._tracker is None else self._tracker.registry.species

    def sort(self, frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return material [n_atoms], species index [n_atoms] and root [n_atoms] of every atom."""
        if self._tracker is None or len(self._tracker.numbers) != frame.n_atoms:
            self._tracker = MoleculeTracker(frame.numbers)
        covalent = self.cutoffs.table(frame.numbers, [Kind.COVALENT])
        contact = self.cutoffs.table(frame.numbers, [Kind.CONTACT])
        cutoff = max(covalent.cutoff, float(contact.form.max(initial=0.0)))
        pairs = neighbor_pairs(frame, cutoff)
        self._tracker.start(raw_bonds(frame.numbers, pairs, covalent).near)
        material = self._material_of_species()[self._tracker.species]
        touching = raw_bonds(frame.numbers, pairs, contact).near
        _place_cations(frame.numbers, touching, material)
        material[metallic_atoms(frame, self.cutoffs, pairs)] = Material.METAL
        return material, self._tracker.species, self._tracker.root

    def _material_of_species(self) -> np.ndarray:
        """Return the material of every species met."""
        return np.array([_OF_ROLE.get(one.role, Material.ELECTROLYTE) for one in self.species])


def _place_cations(numbers: np.ndarray, touching: np.ndarray, material: np.ndarray) -> None:
    """Give the atoms of metallic elements the material of what they touch, in place."""
    n = len(numbers)
    metals = is_metal(numbers)
    first, second = np.divmod(touching, n)
    ion = np.where(metals[first], first, second)
    partner = np.where(metals[first], second, first)
    material[metals] = Material.ELECTROLYTE
    for kind in (Material.ORGANIC, Material.INORGANIC):  # the later one wins
        material[ion[material[partner] == kind]] = kind
