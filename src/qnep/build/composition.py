"""How many molecules: from solvents, salt, molarity and the size of the box, and the density that follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qnep.build.molecules import SOLVENTS, find_species, make_molecule

MOLAR_VOLUME_OF_A3 = 0.602214076  # cm³/mol of 1 Å³ per molecule (Avogadro constant of the SI)

SALTS = {
    "NaPF6": ("Na+", "PF6-"),
    "NaFSI": ("Na+", "FSI-"),
    "NaTFSI": ("Na+", "TFSI-"),
    "NaClO4": ("Na+", "ClO4-"),
    "LiPF6": ("Li+", "PF6-"),
    "LiFSI": ("Li+", "FSI-"),
    "LiTFSI": ("Li+", "TFSI-"),
    "KPF6": ("K+", "PF6-"),
    "KFSI": ("K+", "FSI-"),
}

# Apparent molar volume of a dissolved ion pair, cm³/mol: estimated as 0.9 times that of the crystal (densities
# NaPF6 2.37, LiPF6 2.84, KPF6 2.59, NaClO4 2.50, NaTFSI 2.24, LiTFSI 2.23, NaFSI 2.1, LiFSI 2.1, KFSI 2.2 g/cm³), since
# electrolyte densities near 1 M scatter by some per cent around it. Give the density itself to be exact.
APPARENT_MOLAR_VOLUMES = {
    "NaPF6": 64.0,
    "NaFSI": 87.0,
    "NaTFSI": 122.0,
    "NaClO4": 44.0,
    "LiPF6": 48.0,
    "LiFSI": 80.0,
    "LiTFSI": 116.0,
    "KPF6": 64.0,
    "KFSI": 90.0,
}

DENSITY_LIMITS = (0.2, 4.0)  # g/cm³; no molecular liquid lies outside


@dataclass(frozen=True)
class Composition:
    """What an electrolyte box contains.

    Parameters
    ----------
    counts : molecules and ions by name, solvents first.
    volume : Å³.
    n_atoms : of all.
    density : g/cm³.
    molarity : mol of salt per litre.
    """

    counts: Mapping[str, int]
    volume: float
    n_atoms: int
    density: float
    molarity: float


def compose(
    solvents: Mapping[str, float],
    salt: str | None,
    molarity: float,
    n_atoms: int | None = None,
    volume: float | None = None,
    density: float | None = None,
) -> Composition:
    """Return whole numbers of molecules closest to a recipe.

    Parameters
    ----------
    solvents : volume fractions by name, in any unit (``{"EC": 1, "DMC": 1}``).
    salt : name, or None for a pure solvent.
    molarity : mol/L of the salt; 0 without one.
    n_atoms : wanted number of atoms; or
    volume : wanted volume, Å³. Exactly one of the two.
    density : of the electrolyte, g/cm³; estimated from the volumes of its parts where it is None.

    Raises
    ------
    ValueError : unknown names, impossible density, a molarity without a salt, or one too low for one ion pair.
    """
    recipe = _Recipe(solvents, salt, molarity, density)
    if n_atoms is not None and volume is None:
        volume = n_atoms / recipe.atoms_per_A3
    elif n_atoms is not None or volume is None:
        raise ValueError("give the size of the box either as n_atoms or as volume")
    if not volume > 0:
        raise ValueError(f"the box needs a positive size, got {n_atoms or volume:g}")
    n_pairs = round(recipe.pairs_per_A3 * volume)
    if salt is not None and n_pairs == 0:
        needed = recipe.atoms_per_A3 / recipe.pairs_per_A3
        raise ValueError(
            f"{molarity:g} mol/L of {salt} is less than half an ion pair in {volume:.0f} Å³: "
            f"ask for at least {int(np.ceil(needed / 2))} atoms or a higher molarity"
        )
    counts = {
        name: max(1, round(number * volume)) for name, number in recipe.solvents_per_A3.items()
    }
    if salt is not None:
        counts.update(dict.fromkeys(SALTS[salt], n_pairs))
    # Rounding changes the mass; the volume follows, so that the density is kept.
    mass = sum(recipe.masses[name] * count for name, count in counts.items())
    volume = mass / (recipe.density * MOLAR_VOLUME_OF_A3)
    return Composition(
        counts=counts,
        volume=volume,
        n_atoms=sum(recipe.sizes[name] * count for name, count in counts.items()),
        density=recipe.density,
        molarity=1000 * n_pairs / (volume * MOLAR_VOLUME_OF_A3),
    )


class _Recipe:
    """Number densities of an ideal mixture."""

    def __init__(
        self,
        solvents: Mapping[str, float],
        salt: str | None,
        molarity: float,
        density: float | None,
    ) -> None:
        pure_densities = {name: _liquid_density(name) for name in solvents}
        _check_recipe(solvents, salt, molarity)
        names = [*solvents, *(SALTS[salt] if salt else ())]
        molecules = {name: make_molecule(name) for name in names}
        self.masses = {name: molecules[name].get_masses().sum() for name in names}
        self.sizes = {name: len(molecules[name]) for name in names}
        total = sum(solvents.values())
        per_litre = {  # mol of each solvent that its share of one litre holds
            name: 1000 * share / total * pure_densities[name] / self.masses[name]
            for name, share in solvents.items()
        }
        free_share = 1 - molarity * APPARENT_MOLAR_VOLUMES[salt] / 1000 if salt else 1.0
        if free_share <= 0.05:
            raise ValueError(f"{molarity:g} mol/L of {salt} leaves no room for the solvent")
        salt_mass = molarity * sum(self.masses[name] for name in SALTS[salt]) if salt else 0.0
        solvent_mass = sum(per_litre[name] * self.masses[name] for name in solvents)
        if density is None:
            density = (free_share * solvent_mass + salt_mass) / 1000
        _check_density(density, salt_mass)
        self.density = density
        scale = (1000 * density - salt_mass) / solvent_mass
        per_A3 = MOLAR_VOLUME_OF_A3 / 1000
        self.solvents_per_A3 = {name: scale * number * per_A3 for name, number in per_litre.items()}
        self.pairs_per_A3 = molarity * per_A3 if salt else 0.0
        n_salt_atoms = sum(self.sizes[name] for name in SALTS[salt]) if salt else 0
        self.atoms_per_A3 = self.pairs_per_A3 * n_salt_atoms + sum(
            self.sizes[name] * number for name, number in self.solvents_per_A3.items()
        )


def _liquid_density(name: str) -> float:
    """g/cm³. Most organic liquids lie near 1; the density of the whole can be given to be exact."""
    density = find_species(name).density
    return 1.0 if density is None else density


def _check_recipe(solvents: Mapping[str, float], salt: str | None, molarity: float) -> None:
    if not solvents:
        raise ValueError(f"at least one solvent, such as {', '.join(SOLVENTS)}")
    for name, share in solvents.items():
        if not share > 0:
            raise ValueError(f"the share of {name} must be positive, got {share:g}")
    if salt is None and molarity > 0:
        raise ValueError(f"a molarity, {molarity:g} mol/L, needs a salt: {', '.join(SALTS)}")
    if salt is not None and salt not in SALTS:
        raise ValueError(f"unknown salt {salt!r}; there are {', '.join(SALTS)}")
    if salt is not None and not molarity > 0:
        raise ValueError(f"the molarity of {salt} must be positive, got {molarity:g} mol/L")


def _check_density(density: float, salt_mass: float) -> None:
    low, high = DENSITY_LIMITS
    if not low <= density <= high:
        raise ValueError(f"density must be between {low:g} and {high:g} g/cm³, got {density:g}")
    if 1000 * density <= salt_mass:
        raise ValueError(
            f"density {density:g} g/cm³ is less than the mass of the salt alone, {salt_mass / 1000:.2f} g/cm³"
        )
