"""What gates look at (`Observation`) and what they say about it (`Finding`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry.cell import complete_cell
from vesin import NeighborList

LARGEST_RATIO = 1.3
"""Pairs are looked at up to so many sums of covalent radii; beyond that no bond is counted."""

MOST_ATOMS_NAMED = 20


@dataclass(frozen=True)
class Finding:
    """The decision record of one gate: a number, the threshold it was held against, and the atoms behind it.

    Parameters
    ----------
    gate : name of the gate.
    value, threshold : in `unit`.
    fires : whether the gate objects.
    atoms : indices of the atoms that object, worst first; `as_dict` names at most 20.
    note : a few words for people.
    """

    gate: str
    value: float
    threshold: float
    unit: str
    fires: bool
    atoms: tuple[int, ...] = ()
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain types for JSON, which knows no infinity: null stands for a value that is not finite."""
        value = self.value if np.isfinite(self.value) else None
        return {**asdict(self), "value": value, "atoms": self.atoms[:MOST_ATOMS_NAMED]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Finding:
        """Return the finding that `as_dict` described."""
        value = np.inf if values["value"] is None else values["value"]
        return cls(**{**values, "value": value, "atoms": tuple(values["atoms"])})

    def __str__(self) -> str:
        sign = "!" if self.fires else " "
        text = f"{sign} {self.gate}: {self.value:.4g} against {self.threshold:.4g} {self.unit}".rstrip()
        if self.atoms:
            text += f", atoms {' '.join(map(str, self.atoms[:5]))}"
            text += " ..." if len(self.atoms) > 5 else ""
        return text + (f" ({self.note})" if self.note else "")


@dataclass
class Observation:
    """One configuration of a run.

    Parameters
    ----------
    atoms : with momenta.
    results : of the machine-learned calculator: energy (eV), forces (n_atoms, 3) (eV/Å), and ``forces_std``
        (n_atoms, 3) (eV/Å) if it is a committee. LAMMPS gives the measure of the uncertainty instead: ``deviations``
        (eV/Å) or ``grades``, (n_atoms,).
    describe : returns the feature vectors of atoms, (n_atoms, n_features).
    """

    atoms: Atoms
    results: Mapping[str, Any]
    describe: Callable[[Atoms], np.ndarray]

    @cached_property
    def features(self) -> np.ndarray:  # [n_atoms, n_features]
        """Feature vectors, calculated when a gate asks for them."""
        return self.describe(self.atoms)

    @cached_property
    def close_pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Atoms of all pairs up to 1.3 sums of covalent radii, each once, and their distances in such sums."""
        radii = covalent_radii[self.atoms.numbers]
        search = NeighborList(cutoff=2 * LARGEST_RATIO * float(radii.max()), full_list=False)
        first, second, distances = search.compute(
            self.atoms.positions, complete_cell(self.atoms.cell.array), self.atoms.pbc, "ijd"
        )
        ratios = distances / (radii[first] + radii[second])
        near = ratios < LARGEST_RATIO
        return first[near], second[near], ratios[near]


def worst_first(values: np.ndarray, threshold: float) -> tuple[int, ...]:
    """Return the atoms whose values exceed a threshold, largest first."""
    order = np.argsort(-values, kind="stable")
    return tuple(int(i) for i in order if values[i] > threshold)
