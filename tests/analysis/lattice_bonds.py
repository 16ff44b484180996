"""A calculator whose surface energies are counts of cut bonds."""

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from qnep.analysis import Frame
from qnep.analysis.bonds import neighbor_pairs

EDGE = 4.63  # Å, NaF
BOND = 0.25  # eV


class LatticeBonds(Calculator):
    """Nearest neighbours on the lattice hold by a fixed energy: surface energies are counts of cut bonds."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        i, _, _ = neighbor_pairs(Frame.from_ase(atoms), 0.6 * EDGE)
        self.results = {
            "energy": -BOND * len(i), "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6),
        }  # fmt: skip
