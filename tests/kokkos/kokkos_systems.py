"""Small random systems and models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io.lammpsdata import write_lammps_data

from qnep import random_model

ELEMENTS = "Na C O"


def random_atoms(
    n_atoms: int, lengths: tuple[float, float, float], tilt: float = 0.0, seed: int = 1
) -> Atoms:
    """Atoms at random places with a smallest distance of 1.6 Å, in a cell that may be sheared."""
    random = np.random.default_rng(seed)
    cell = np.diag(lengths)
    cell[1, 0], cell[2, 0], cell[2, 1] = tilt, -0.7 * tilt, 0.5 * tilt
    atoms = Atoms(cell=cell, pbc=True)
    while len(atoms) < n_atoms:
        trial = atoms + Atoms("X", positions=[random.random(3) @ cell])
        places = range(len(atoms))
        if not len(atoms) or trial.get_distances(-1, places, mic=True).min() > 1.6:
            atoms = trial
    kinds = ELEMENTS.split()
    atoms.set_chemical_symbols([kinds[k % len(kinds)] for k in range(n_atoms)])
    return atoms


def write_system(
    folder: Path,
    n_atoms: int = 40,
    lengths: tuple[float, float, float] = (8.0, 9.0, 13.0),
    tilt: float = 2.5,
    **model_options: object,
) -> None:
    """system.data and nep.txt; the sheared cell is smaller than twice the cutoff in places."""
    atoms = random_atoms(n_atoms, lengths, tilt)
    write_lammps_data(
        folder / "system.data",
        atoms,
        specorder=ELEMENTS.split(),
        masses=True,
        atom_style="charge",
        units="metal",
    )
    options = {"radial_cutoff": 5.0, "zbl": (0.7, 1.4), "seed": 3, **model_options}
    random_model(ELEMENTS, **options).write(str(folder / "nep.txt"))  # type: ignore[arg-type]
