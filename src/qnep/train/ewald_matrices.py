"""Coulomb energy of atoms that do not move, as constant matrices: E = q M q / 2 and its derivatives.

The sums are those of the engine, with the Ewald parameter alpha = pi / R_radial and the wave vectors |k| < 2 pi alpha
(GPUMD and arXiv:2601.19034). Mode 2 is the reciprocal part alone, with each smeared charge's own energy; mode 1 adds
the real-space part, truncated at R_radial, and the self term.
"""

from __future__ import annotations

import numpy as np
from scipy.special import erfc

from qnep.conventions import COULOMB_CONSTANT

#: Cartesian components of the virial that are kept; it is symmetric.
VIRIAL_COMPONENTS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
N_WITHOUT_VIRIAL = 4
N_WITH_VIRIAL = 10


def wave_vectors(cell: np.ndarray, alpha: float) -> np.ndarray:
    """Return the wave vectors of half the space with |k| < 2 pi alpha, without k = 0; [n_k, 3], 1/Å."""
    reciprocal = 2 * np.pi * np.linalg.inv(cell).T
    limits = np.floor(alpha * np.linalg.norm(cell, axis=1) + 1e-9).astype(int)
    axes = [np.arange(-limit, limit + 1) for limit in limits]
    integers = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    first, second, third = integers.T
    upper = (first > 0) | ((first == 0) & ((second > 0) | ((second == 0) & (third > 0))))
    vectors = integers[upper] @ reciprocal
    return vectors[(vectors**2).sum(axis=1) < (2 * np.pi * alpha) ** 2]


def reciprocal_matrices(
    positions: np.ndarray, cell: np.ndarray, alpha: float, with_virial: bool
) -> np.ndarray:
    """Return the matrices of the reciprocal part.

    Parameters
    ----------
    positions : [n_atoms, 3], Å.
    cell : [3, 3], rows, Å.
    alpha : Ewald parameter, 1/Å.

    Returns
    -------
    matrices : [4 or 10, n_atoms, n_atoms]; 0: M, V_i = sum_j M_ij q_j (V); 1-3: dM_ij/dr_i, so that at fixed charges
        F_i = -q_i sum_j dM_ij q_j; 4-9: virial, W_ab = q W q / 2 for VIRIAL_COMPONENTS.
    """
    k = wave_vectors(cell, alpha)
    k_squared = (k**2).sum(axis=1)
    volume = abs(np.linalg.det(cell))
    weights = (
        2 * COULOMB_CONSTANT * 4 * np.pi / volume * np.exp(-k_squared / (4 * alpha**2)) / k_squared
    )
    phases = positions @ k.T
    cosines, sines = np.cos(phases), np.sin(phases)
    matrices = np.empty(
        (N_WITH_VIRIAL if with_virial else N_WITHOUT_VIRIAL, len(positions), len(positions))
    )
    matrices[0] = _cosine_sum(cosines, sines, weights)
    for axis in range(3):
        mixed = (sines * (weights * k[:, axis])) @ cosines.T
        matrices[1 + axis] = mixed.T - mixed
    if with_virial:
        factor = 1 / (2 * alpha**2) + 2 / k_squared
        for component, (a, b) in enumerate(VIRIAL_COMPONENTS):
            tensor = weights * (float(a == b) - factor * k[:, a] * k[:, b])
            matrices[N_WITHOUT_VIRIAL + component] = _cosine_sum(cosines, sines, tensor)
    return matrices


def _cosine_sum(cosines: np.ndarray, sines: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return sum_k w_k cos(k (r_i - r_j))."""
    return (cosines * weights) @ cosines.T + (sines * weights) @ sines.T


def add_real_space(
    matrices: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    vectors: np.ndarray,
    alpha: float,
) -> None:
    """Add the real-space part of mode 1, K erfc(alpha d)/d over the directed pairs, and the self term.

    first, second : [n_pairs] rows of the matrices; all pairs within the radial cutoff, images of an atom included.
    vectors : [n_pairs, 3], r_j - r_i, Å.
    """
    distances = np.linalg.norm(vectors, axis=1)
    screened = COULOMB_CONSTANT * erfc(alpha * distances) / distances
    gaussian = COULOMB_CONSTANT * 2 * alpha / np.sqrt(np.pi) * np.exp(-((alpha * distances) ** 2))
    over_distance = -(screened + gaussian) / distances**2  # (1/d) d/dd of the pair potential
    np.add.at(matrices[0], (first, second), screened)
    for axis in range(3):
        np.add.at(matrices[1 + axis], (first, second), -over_distance * vectors[:, axis])
    for component, (a, b) in enumerate(VIRIAL_COMPONENTS[: len(matrices) - N_WITHOUT_VIRIAL]):
        moment = -over_distance * vectors[:, a] * vectors[:, b]
        np.add.at(matrices[N_WITHOUT_VIRIAL + component], (first, second), moment)
    diagonal = np.arange(matrices.shape[1])
    matrices[0, diagonal, diagonal] -= COULOMB_CONSTANT * 2 * alpha / np.sqrt(np.pi)
