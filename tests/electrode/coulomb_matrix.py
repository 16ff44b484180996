"""The matrix of Gaussian charges, term by term, that the solver never builds."""

from __future__ import annotations

import numpy as np
from scipy.special import erf

COULOMB_CONSTANT = 14.399645  # eV Å e⁻²


def all_pairs(
    positions: np.ndarray, cell: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return first, second, shifts of all pairs within the cutoff, both directions, images of an atom included."""
    n_max = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(cell), axis=0)).astype(int) + 1
    axes = [np.arange(-n, n + 1) for n in n_max]
    shifts = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = (
        positions[None, :, None] + (shifts @ cell)[None, None] - positions[:, None, None]
    )  # [i, j, shift]
    distances = np.linalg.norm(vectors, axis=-1)
    first, second, shift = np.nonzero((distances < cutoff) & (distances > 1e-9))
    return (
        first.astype(np.int32),
        second.astype(np.int32),
        np.ascontiguousarray(shifts[shift], dtype=np.int32),
    )


def half_space(cell: np.ndarray, limit: float) -> np.ndarray:
    """Return one of each pair ±k with 0 < |k| < limit, [n_k, 3]."""
    n_max = np.floor(limit * np.linalg.norm(cell, axis=1) / (2 * np.pi)).astype(int) + 1
    axes = [np.arange(-n, n + 1) for n in n_max]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    first = (index != 0).argmax(axis=1)
    vectors = index[index[np.arange(len(index)), first] > 0] @ (2 * np.pi * np.linalg.inv(cell).T)
    return vectors[np.linalg.norm(vectors, axis=1) < limit]


def hessian(
    positions: np.ndarray,
    cell: np.ndarray,
    hardnesses: np.ndarray,
    widths: np.ndarray | None,
    alpha: float,
    cutoff: float,
    slab_axis: int | None = None,
) -> np.ndarray:
    """Second derivatives of the energy, V/e, split at `alpha` as in the solver.

    The limit |k| < 2 pi alpha and the cutoff of the pair term make it the solver's matrix to round-off; with a larger
    alpha and cutoff it is the exact one.
    """
    volume = abs(np.linalg.det(cell))
    k = half_space(cell, 2 * np.pi * alpha)
    squared = np.einsum("ka,ka->k", k, k)
    weight = 4 * np.pi / volume * np.exp(-squared / (4 * alpha**2)) / squared
    phases = np.exp(1j * positions @ k.T)
    matrix = 2 * COULOMB_CONSTANT * ((phases * weight) @ phases.conj().T).real
    matrix += np.diag(hardnesses)
    if widths is not None:
        own = 1 / (np.sqrt(np.pi) * widths) - 2 * alpha / np.sqrt(np.pi)
        matrix += np.diag(COULOMB_CONSTANT * own)
        first, second, shifts = all_pairs(positions, cell, cutoff)
        d = np.linalg.norm(positions[second] + shifts @ cell - positions[first], axis=1)
        spread = np.sqrt(2 * (widths[first] ** 2 + widths[second] ** 2))
        x = np.clip((d - 0.9 * cutoff) / (0.1 * cutoff), 0, 1)
        taper = 1 - x**3 * (10 - 15 * x + 6 * x**2)
        pair = COULOMB_CONSTANT * (erf(d / spread) - erf(alpha * d)) / d * taper
        np.add.at(matrix, (first, second), pair)
    if slab_axis is not None:
        normal = np.linalg.inv(cell)[:, slab_axis]
        heights = positions @ (normal / np.linalg.norm(normal))
        matrix += 4 * np.pi * COULOMB_CONSTANT / volume * np.outer(heights, heights)
    return matrix


def dense_solution(
    matrix: np.ndarray, electronegativities: np.ndarray, weights: np.ndarray, totals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return charges and multipliers from the whole system of equations."""
    n, m = len(matrix), len(weights)
    whole = np.block([[matrix, -weights.T], [weights, np.zeros((m, m))]])
    solution = np.linalg.solve(whole, np.concatenate([-electronegativities, totals]))
    return solution[:n], solution[n:]
