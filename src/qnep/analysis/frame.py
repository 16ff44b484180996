"""One snapshot of a trajectory: what every analysis gets to see."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, chemical_symbols
from ase.units import fs, kB


@dataclass(frozen=True)
class Frame:
    """Atoms at one time.

    Parameters
    ----------
    positions : (n_atoms, 3) array, Å.
    numbers : (n_atoms,) array of atomic numbers.
    cell : (3, 3) array, Å, cell vectors as rows; zeros for a molecule without a box.
    pbc : (3,) array of bool.
    index : position of the frame in its file, from 0.
    step : of the molecular dynamics run, where the file tells it.
    time_fs : fs; None where neither the file nor the caller tells it.
    charges : (n_atoms,) array, e, where present.
    velocities : (n_atoms, 3) array, Å/fs, where present.
    energy : eV, where present.
    ids : (n_atoms,) of the atoms in the run, where the file tells them.
    """

    positions: np.ndarray
    numbers: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    index: int = 0
    step: int | None = None
    time_fs: float | None = None
    charges: np.ndarray | None = None
    velocities: np.ndarray | None = None
    energy: float | None = None
    ids: np.ndarray | None = None
    extra: dict = field(default_factory=dict)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def volume(self) -> float:
        """Volume of the cell, Å³."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def time(self) -> float:
        """Time in fs, or the index of the frame where no time is known."""
        return float(self.index) if self.time_fs is None else self.time_fs

    @property
    def temperature(self) -> float:
        """Temperature of 3 n degrees of freedom, K; nan without velocities."""
        if self.velocities is None:
            return float("nan")
        speeds = self.velocities / fs
        kinetic = 0.5 * (atomic_masses[self.numbers][:, None] * speeds**2).sum()
        return float(2.0 * kinetic / (3 * self.n_atoms * kB))

    def is_element(self, *symbols: str) -> np.ndarray:
        """Return a mask [n_atoms] of the atoms of the given elements."""
        return np.isin(self.numbers, [chemical_symbols.index(s) for s in symbols])

    def take(self, atoms: np.ndarray) -> Frame:
        """Return the frame with only the given atoms (indices or mask)."""
        return replace(
            self,
            positions=self.positions[atoms],
            numbers=self.numbers[atoms],
            charges=None if self.charges is None else self.charges[atoms],
            velocities=None if self.velocities is None else self.velocities[atoms],
            ids=None if self.ids is None else self.ids[atoms],
        )

    def with_charges(self, charges: np.ndarray | None) -> Frame:
        """Return the frame with these charges [n_atoms], e."""
        return replace(self, charges=charges)

    def to_ase(self) -> Atoms:
        """Return the frame as ASE atoms, charges as initial charges."""
        return Atoms(
            numbers=self.numbers,
            positions=self.positions,
            cell=self.cell,
            pbc=self.pbc,
            charges=self.charges,
        )

    @classmethod
    def from_ase(cls, atoms: Atoms, index: int = 0, time_fs: float | None = None) -> Frame:
        """Make a frame of ASE atoms; charges are taken where they were set."""
        charges = atoms.get_initial_charges() if atoms.has("initial_charges") else None
        return cls(
            positions=atoms.get_positions(),
            numbers=atoms.numbers.copy(),
            cell=np.asarray(atoms.cell),
            pbc=atoms.pbc.copy(),
            index=index,
            time_fs=time_fs,
            charges=charges,
        )
