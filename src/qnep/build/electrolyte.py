"""Boxes of electrolyte and amorphous solids."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase import Atoms

from qnep.build.composition import MOLAR_VOLUME_OF_A3, Composition, compose
from qnep.build.crystals import make_crystal
from qnep.build.packing import pack

# Ions of one formula unit.
FORMULA_UNITS = {
    "NaF": {"Na+": 1, "F-": 1},
    "LiF": {"Li+": 1, "F-": 1},
    "NaH": {"Na+": 1, "H-": 1},
    "LiH": {"Li+": 1, "H-": 1},
    "Na2O": {"Na+": 2, "O--": 1},
    "Li2O": {"Li+": 2, "O--": 1},
    "NaOH": {"Na+": 1, "OH-": 1},
    "LiOH": {"Li+": 1, "OH-": 1},
    "Na2CO3": {"Na+": 2, "CO3--": 1},
    "Li2CO3": {"Li+": 2, "CO3--": 1},
}
AMORPHOUS_DENSITY = 0.9  # of the crystal's


def make_electrolyte(
    solvents: Mapping[str, float],
    salt: str | None = None,
    molarity: float = 0.0,
    n_atoms: int = 1000,
    density: float | None = None,
    seed: int = 1,
) -> Atoms:
    """Return a periodic cubic box of electrolyte.

    Parameters
    ----------
    solvents : volume fractions by name or SMILES, in any unit.
    salt, molarity, density : see `compose`.
    n_atoms : wanted number; whole molecules come closest to it.
    seed : of conformers and packing.

    Returns
    -------
    Atoms with ``molecule_id`` and initial charges; `info` holds density (g/cm³), molarity (mol/L) and composition.
    """
    composition = compose(solvents, salt, molarity, n_atoms=n_atoms, density=density)
    atoms = pack(composition.counts, np.eye(3) * composition.volume ** (1 / 3), seed)
    atoms.info.update(describe(composition))
    return atoms


def make_amorphous(
    name: str, cell: np.ndarray, density_ratio: float = AMORPHOUS_DENSITY, seed: int = 1
) -> Atoms:
    """Return ions of a solid packed at random into a cell, periodic in the plane; neutral.

    Parameters
    ----------
    name : of the solid, as NaF or Na2CO3.
    cell : (3, 3) array, Å; lower triangular.
    density_ratio : to the crystal.

    Raises
    ------
    ValueError : unknown solid, or a cell too small for one formula unit.
    """
    if name not in FORMULA_UNITS:
        raise ValueError(f"unknown amorphous solid {name!r}; there are {', '.join(FORMULA_UNITS)}")
    crystal = make_crystal(name)
    n_crystal = crystal.get_atomic_numbers().size / _atoms_per_unit(name)
    volume_per_unit = crystal.get_volume() / n_crystal / density_ratio
    n_units = int(abs(np.linalg.det(cell)) / volume_per_unit)
    if n_units < 1:
        raise ValueError(
            f"a cell of {abs(np.linalg.det(cell)):.0f} Å³ is too small for one unit of {name} "
            f"({volume_per_unit:.0f} Å³)"
        )
    counts = {ion: n_units * count for ion, count in FORMULA_UNITS[name].items()}
    return pack(counts, cell, seed, is_periodic=(True, True, False))


def describe(composition: Composition) -> dict[str, float | str]:
    """Return what is worth knowing about an electrolyte, for `info` and reports."""
    return {
        "density": round(composition.density, 4),
        "molarity": round(composition.molarity, 4),
        "composition": list_counts(composition.counts),
    }


def list_counts(counts: Mapping[str, int]) -> str:
    """Return "24 EC, 3 Na+" of {"EC": 24, "Na+": 3}."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def mass_density(atoms: Atoms, volume: float | None = None) -> float:
    """Return the density in g/cm³ of a cell or of a part with a volume in Å³."""
    return atoms.get_masses().sum() / ((volume or atoms.get_volume()) * MOLAR_VOLUME_OF_A3)


def _atoms_per_unit(name: str) -> int:
    sizes = {"CO3--": 4, "OH-": 2}
    return sum(count * sizes.get(ion, 1) for ion, count in FORMULA_UNITS[name].items())
