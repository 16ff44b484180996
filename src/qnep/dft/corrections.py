"""Terms that are added to what a DFT code returns, as ASE calculators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from qnep._optional import require

D3_DAMPING = {"d3bj": "d3bj", "d3zero": "d3zero"}


class PulayStress(Calculator):
    """The basis-set term of the stress that a plane-wave code with fixed cutoff leaves out.

    ``stress = stress of the code - p``, ``p = -(2/3) (E_cut / V) sum_i dE_i/dE_cut``. Energy and forces are zero.

    Parameters
    ----------
    cutoff_eV : E_cut.
    slopes : dE_i/dE_cut by element, eV/eV; negative, since a larger basis lowers the energy.

    Raises
    ------
    ValueError : on evaluation, an element without a slope.

    References
    ----------
    Francis and Payne, J. Phys.: Condens. Matter 2, 4395 (1990), doi:10.1088/0953-8984/2/19/007
    """

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012 (declared by ASE)

    def __init__(self, cutoff_eV: float, slopes: Mapping[str, float]) -> None:
        super().__init__()
        self.cutoff_eV = cutoff_eV
        self.slopes = dict(slopes)

    def pressure(self, atoms: Atoms) -> float:
        """Return p, eV/Å³."""
        symbols = atoms.get_chemical_symbols()
        unknown = sorted(set(symbols) - set(self.slopes))
        if unknown:
            raise ValueError(
                f"no basis-set correction of the stress is known for {', '.join(unknown)}: add a slope to the "
                "setting pulay, or set pulay={} and give the stress no weight in training"
            )
        return -(2 / 3) * self.cutoff_eV / atoms.get_volume() * sum(self.slopes[s] for s in symbols)

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        """Fill `results`; called by ASE."""
        super().calculate(atoms, properties, system_changes)
        assert atoms is not None  # ASE hands it over
        pressure = self.pressure(atoms)
        self.results = {
            "energy": 0.0,
            "forces": np.zeros((len(atoms), 3)),
            "stress": np.array([-pressure] * 3 + [0.0] * 3),
        }


def dispersion_calculator(dispersion: str, xc: str) -> Calculator:
    """Return Grimme's D3 correction for a functional.

    Raises
    ------
    MissingExtra : the package dftd3 is not installed.

    References
    ----------
    Grimme, Ehrlich and Goerigk, J. Comput. Chem. 32, 1456 (2011), doi:10.1002/jcc.21759
    """
    return require("dftd3.ase", "dft").DFTD3(method=xc, damping=D3_DAMPING[dispersion])
