"""Units, tensor orders and constants, each once and with its source.

Lengths in Å, energies in eV, charges in e, forces in eV/Å, stress in eV/Å³, time in fs, temperature in K. Cell vectors
are rows. The vector of a pair is ``r_ij = r_j - r_i``. The virial is ``W = sum r_i (x) F_i`` (positive trace:
compressed) and the stress ``-W / V`` (tension positive, as in ASE).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

COULOMB_CONSTANT = 14.399645
"""e²/(4π ε0) in eV Å e⁻²; the digits that GPUMD's trainer and engine use, so that fitted models contain them."""

EV_PER_A3_IN_GPA = 160.2176634
"""1 eV/Å³ in GPa (exact elementary charge of the SI 2019: 1.602176634e-19 J over 1e-30 m³)."""

ASE_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""ASE's order of six stress components: xx yy zz yz xz xy."""

LAMMPS_VOIGT = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""LAMMPS's order of six virial and pressure components: xx yy zz xy xz yz."""

LAMMPS_CENTROID = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 1))
"""LAMMPS's order of the nine components of ``compute centroid/stress/atom``; also GPUMD's."""

GPUMD_TRAINER_VOIGT = ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))
"""Order of the six components in GPUMD's ``virial_train.out``: xx yy zz xy yz zx."""


def to_voigt(
    tensors: np.ndarray, order: tuple[tuple[int, int], ...] = ASE_VOIGT
) -> np.ndarray:  # [..., 6]
    """Return six components of the symmetric part of (..., 3, 3) tensors."""
    first, second = _flat_places(order)
    if tensors.ndim == 2:  # at every step of a simulation: plain numbers take half of the time
        numbers = tensors.ravel().tolist()
        return np.array(
            [0.5 * (numbers[a] + numbers[b]) for a, b in zip(first, second, strict=True)]
        )
    flat = tensors.reshape(*tensors.shape[:-2], 9)
    return 0.5 * (flat[..., first] + flat[..., second])


@lru_cache
def _flat_places(order: tuple[tuple[int, int], ...]) -> tuple[list[int], list[int]]:
    """Where the components and their mirror images stand in a row of nine; looked up at every step of a simulation."""
    return [3 * a + b for a, b in order], [3 * b + a for a, b in order]


def from_voigt(
    components: np.ndarray, order: tuple[tuple[int, int], ...] = ASE_VOIGT
) -> np.ndarray:  # [..., 3, 3]
    """Return symmetric tensors from (..., 6) components."""
    tensors = np.empty((*np.shape(components)[:-1], 3, 3))
    for k, (a, b) in enumerate(order):
        tensors[..., a, b] = tensors[..., b, a] = components[..., k]
    return tensors
