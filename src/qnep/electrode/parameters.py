"""What describes an electrode and an element in charge equilibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Electrode:
    """One electrode, with either its potential or its charge given.

    Parameters
    ----------
    name : for results and messages.
    potential_V : electric potential against the common reference. The more positive electrode takes up positive charge.
    charge : e, of the whole electrode, if that is what is held.
    """

    name: str
    potential_V: float | None = None
    charge: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.potential_V, self.charge) if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"electrode {self.name} needs either potential_V or charge, got "
                f"potential_V={self.potential_V}, charge={self.charge}"
            )
        if not np.isfinite(given[0]):
            raise ValueError(f"electrode {self.name} needs a finite value, got {given[0]}")


@dataclass(frozen=True)
class ElementParameters:
    """Parameters of one element in charge equilibration.

    Parameters
    ----------
    electronegativity : V, energy per charge at zero charge.
    hardness : V/e, positive, second derivative of the energy *without* the Gaussian's own Coulomb energy.
    width : Å, positive, standard deviation of the Gaussian charge.
    """

    electronegativity: float
    hardness: float
    width: float

    def __post_init__(self) -> None:
        for name in ("hardness", "width"):
            value = getattr(self, name)
            if not (value > 0.0 and np.isfinite(value)):
                raise ValueError(f"{name} must be positive, got {value}")
        if not np.isfinite(self.electronegativity):
            raise ValueError(f"electronegativity must be finite, got {self.electronegativity}")


ELEMENT_PARAMETERS: Mapping[str, ElementParameters] = {
    "H": ElementParameters(5.32, 7.437, 0.31),
    "Li": ElementParameters(-3.0, 10.024, 1.28),
    "C": ElementParameters(5.868, 7.0, 0.76),
    "O": ElementParameters(8.5, 8.999, 0.66),
    "F": ElementParameters(9.0, 8.0, 0.57),
    "Na": ElementParameters(2.843, 4.592, 1.66),
    "P": ElementParameters(1.8, 7.095, 1.07),
}
"""Default parameters.

All but Na: the values published with the lithium study, Nat. Commun. 16 (2025), doi:10.1038/s41467-025-62824-5, with
covalent radii, Cordero et al., Dalton Trans. 2832 (2008), doi:10.1039/b801115j, as widths. Na: electronegativity and
hardness of Rappé and Goddard, J. Phys. Chem. 95, 3358 (1991), doi:10.1021/j100161a070, and the covalent radius; it
was not fitted together with the others, so charges between Na and an electrolyte should be checked before use in the
equilibrated scheme. In the induced scheme only hardnesses matter.
"""


def per_atom(
    symbols: list[str], parameters: Mapping[str, ElementParameters]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return electronegativities (V), hardnesses (V/e) and widths (Å) of atoms, each (n_atoms,)."""
    missing = sorted(set(symbols) - set(parameters))
    if missing:
        raise ValueError(
            f"no charge parameters for {' '.join(missing)}; known are {' '.join(sorted(parameters))}. Give them as "
            "parameters={'X': ElementParameters(electronegativity, hardness, width), ...}"
        )
    kinds, kind_of_atom = np.unique(symbols, return_inverse=True)
    rows = [parameters[kind] for kind in kinds]
    table = np.array([[row.electronegativity, row.hardness, row.width] for row in rows])
    electronegativities, hardnesses, widths = np.ascontiguousarray(table[kind_of_atom].T)
    return electronegativities, hardnesses, widths
