"""A small interface with a cheap pair potential: graphite | sparse Na-F layer | Na, two-atom solvent and salt.

Nothing about it is realistic but the geometry: bonds are Morse wells, all else soft spheres that graphite attracts.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

ELEMENTS = ("C", "F", "N", "Na", "O", "P")
FORCE_FIELD = """pair_style hybrid lj/cut 6.0 morse 4.0
pair_modify shift yes
pair_coeff * * lj/cut 0.004 2.7
pair_coeff 1 4 lj/cut 0.08 2.5
pair_coeff 3 5 morse 4.0 4.0 1.2
pair_coeff 2 6 morse 4.0 4.0 1.6
"""
GRAPHENE = 2.46  # Å, lattice constant
LAYERS = (0.7, 4.05)  # Å, heights of the graphene layers
ANODE = "elements=C"
SEI = "between=8:10"


def toy_interface(n_sodium: int = 14, height: float = 34.0, periodic: bool = False) -> Atoms:
    """Return the interface, 12.3 x 12.8 Å wide, normal along z; `n_sodium` ions in the electrolyte."""
    graphene = Atoms(
        "C4",
        scaled_positions=[(0, 0, 0), (0.5, 1 / 6, 0), (0.5, 0.5, 0), (0, 2 / 3, 0)],
        cell=[GRAPHENE, GRAPHENE * np.sqrt(3), 1.0],
    ) * (5, 3, 1)
    width = graphene.cell.lengths()[:2]
    atoms = Atoms(cell=[*width, height], pbc=[True, True, periodic])
    for z in LAYERS:
        layer = Atoms("C60", graphene.positions + [0, 0, z])
        atoms += layer
    for k, (x, y) in enumerate(_grid(3, width)):
        atoms += Atoms("Na" if k % 2 else "F", [[x, y, 9.0]])
    top = height - 4.0 if periodic else height - 2.0  # not into the next cell's graphene
    sites = [(x, y, z) for z in np.arange(12.0, top, 3.3) for x, y in _grid(4, width)]
    order = np.random.default_rng(5).permutation(len(sites))
    for k, site in enumerate(order):
        if k < n_sodium:
            atoms += Atoms("Na", [sites[site]])
        else:
            kind, length = ("PF", 1.6) if k < n_sodium + 4 else ("NO", 1.2)
            atoms += Atoms(kind, [sites[site], np.add(sites[site], (0, 0, length))])
    atoms.set_initial_charges([{"Na": 0.9, "F": -0.9}.get(symbol, 0.0) for symbol in atoms.symbols])
    return atoms


def _grid(n: int, width: np.ndarray) -> list[tuple[float, float]]:
    return [
        ((i + 0.5) * width[0] / n, (j + 0.5) * width[1] / n) for i in range(n) for j in range(n)
    ]
