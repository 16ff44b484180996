"""Small two-electrode cells with random models."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from qnep import QNEP
from qnep.electrode import ConstantPotential, CoordinationMembership, Electrode
from qnep.model import random_model

LATTICE = 4.2  # Å, bcc sodium
N_LAYERS = 4


def two_electrodes(seed: int = 0, noise: float = 0.1) -> Atoms:
    """Sodium slabs (2 x 2 cells, four layers each) and an adatom, a dissolved atom and fluorides between, then vacuum.

    The adatom's count of neighbours lies inside the default switch of `membership`.
    """
    generator = np.random.default_rng(seed)
    layer = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * LATTICE
    lower = [
        [x + 0.5 * LATTICE * (k % 2), y + 0.5 * LATTICE * (k % 2), 0.5 * LATTICE * k]
        for k in range(N_LAYERS)
        for x, y in layer
    ]
    top = 0.5 * LATTICE * (N_LAYERS - 1)
    upper = [[x, y, 2 * top + 14.0 - z] for x, y, z in lower]
    between = [
        [0.1, 0.3, top + 0.5 * LATTICE],  # on the lower electrode: 4 + 1 neighbours in two shells
        [4.0, 4.5, top + 6.9],
        [1.5, 6.0, top + 6.2],
        [6.5, 2.1, top + 9.1],
    ]
    positions = np.array(lower + upper + between)
    positions += noise * generator.uniform(-1, 1, positions.shape)
    symbols = ["Na"] * (len(lower) + len(upper)) + ["Na", "Na", "F", "F"]
    cell = [2 * LATTICE, 2 * LATTICE, 2 * top + 14.0 + 16.0]
    atoms = Atoms(symbols, positions, cell=cell, pbc=True)
    atoms.positions[:, 2] += 8.0
    return atoms


def membership(atoms: Atoms, **settings) -> CoordinationMembership:
    """Smooth membership with the plane where the dissolved atom is."""
    height = (atoms.positions[2 * 4 * N_LAYERS + 1, 2] + 0.4) / atoms.cell[2, 2]
    values = {
        "elements": ["Na"],
        "distances": (4.4, 5.6),
        "counts": (3.0, 8.0),
        "planes": [height],
        "plane_width": 0.1,
    }
    return CoordinationMembership(**(values | settings))


def charged_model(seed: int = 1):
    """A random qNEP, cheap to evaluate."""
    return random_model(
        "Na F",
        charge_mode=2,
        radial_cutoff=5.0,
        angular_cutoff=4.0,
        n_max=(2, 2),
        basis_size=(4, 4),
        seed=seed,
    )


def induced(
    atoms: Atoms, electrodes: list[Electrode] | None = None, **settings
) -> ConstantPotential:
    """The scheme of induced charges on `charged_model`."""
    electrodes = electrodes or [
        Electrode("lower", potential_V=-1.0),
        Electrode("upper", potential_V=1.5),
    ]
    values = {"kspace": "ewald", "tolerance": 1e-9} | settings
    return ConstantPotential(
        QNEP(charged_model(), kspace="ewald"),
        electrodes,
        values.pop("membership", membership(atoms)),
        **values,
    )


def equilibrated(
    atoms: Atoms, electrodes: list[Electrode] | None = None, **settings
) -> ConstantPotential:
    """The scheme of equilibrated charges on a random NEP."""
    electrodes = electrodes or [
        Electrode("lower", potential_V=-2.0),
        Electrode("upper", potential_V=6.0),
    ]
    values = {"kspace": "ewald", "tolerance": 1e-9} | settings
    base = QNEP(
        random_model(
            "Na F", radial_cutoff=5.0, angular_cutoff=4.0, n_max=(2, 2), basis_size=(4, 4), seed=2
        )
    )
    return ConstantPotential(
        base,
        electrodes,
        values.pop("membership", membership(atoms)),
        scheme="equilibrated",
        **values,
    )
