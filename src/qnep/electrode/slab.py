"""Geometry and electrostatics of a cell that is open along one lattice vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qnep.conventions import COULOMB_CONSTANT

SMALLEST_VACUUM = 5.0  # Å; nearer than this the two outer surfaces touch through the boundary


def unwrap(
    positions: np.ndarray, cell: np.ndarray, axis: int, planes: Sequence[float] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Move atoms by whole cell vectors along `axis` so that the widest gap lies at the boundary of the cell.

    Parameters
    ----------
    positions : (n_atoms, 3) array, Å.
    cell : (3, 3) array, Å.
    axis : lattice vector that leads through the vacuum.
    planes : ascending fractions of that vector, between electrodes.

    Returns
    -------
    positions : (n_atoms, 3) array, Å, and their fractional coordinates along the axis, (n_atoms,), which lie within
        one unit. It holds the planes, or without them starts in -0.5 ... 0.5.

    Raises
    ------
    ValueError : the widest gap is narrower than `SMALLEST_VACUUM`.
    """
    fractions = positions @ np.linalg.inv(cell)[:, axis]
    ordered = np.sort(fractions % 1.0)
    gaps = np.diff(np.append(ordered, ordered[0] + 1.0))
    widest = int(np.argmax(gaps))
    thickness = 1.0 / np.linalg.norm(np.linalg.inv(cell)[:, axis])
    if gaps[widest] * thickness < SMALLEST_VACUUM:
        raise ValueError(
            f"the slab correction needs at least {SMALLEST_VACUUM:g} Å of vacuum along cell vector {axis}, the widest "
            f"gap is {gaps[widest] * thickness:.2f} Å. Add vacuum, as atoms.center(vacuum=10.0, axis={axis})"
        )
    start = ordered[widest] + 0.5 * gaps[widest]
    if len(planes):
        start += np.floor(0.5 * (planes[0] + planes[-1]) - start)
    else:
        start -= np.floor(start + 0.5)
    shifts = -np.floor(fractions - start)
    return positions + shifts[:, None] * cell[axis], fractions + shifts


@dataclass
class Fields:
    """Energy (eV), potentials (n_atoms,) (V), forces (n_atoms, 3) (eV/Å) and virial (3, 3) (eV) of charges."""

    energy: float
    potentials: np.ndarray
    forces: np.ndarray
    virial: np.ndarray

    def __add__(self, other: Fields) -> Fields:
        return Fields(
            self.energy + other.energy,
            self.potentials + other.potentials,
            self.forces + other.forces,
            self.virial + other.virial,
        )

    def __sub__(self, other: Fields) -> Fields:
        return Fields(
            self.energy - other.energy,
            self.potentials - other.potentials,
            self.forces - other.forces,
            self.virial - other.virial,
        )


def slab_correction(
    positions: np.ndarray, cell: np.ndarray, charges: np.ndarray, axis: int
) -> Fields:
    """Return what turns a sum with conducting surroundings into one that is open along the axis.

    E = 2 pi K (M·n)²/V with the dipole M of the cell and the normal n of the other two cell vectors. The charges must
    sum to zero and the positions be those of `unwrap`.

    References
    ----------
    Yeh and Berkowitz, J. Chem. Phys. 111, 3155 (1999), doi:10.1063/1.479595
    """
    volume = abs(np.linalg.det(cell))
    reciprocal = np.linalg.inv(cell)[:, axis]
    normal = reciprocal / np.linalg.norm(reciprocal)
    heights = positions @ normal
    dipole = charges @ heights
    scale = 2 * np.pi * COULOMB_CONSTANT / volume
    energy = scale * dipole**2
    return Fields(
        energy,
        2 * scale * dipole * heights,
        -2 * scale * dipole * charges[:, None] * normal,
        -energy * (2 * np.outer(normal, normal) - np.eye(3)),
    )
