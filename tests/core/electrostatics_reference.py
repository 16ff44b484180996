"""Slow and plain Coulomb sums that the core is compared with."""

from __future__ import annotations

import numpy as np
from scipy.special import erfc

COULOMB_CONSTANT = 14.399645  # eV Å e⁻²


def half_space_vectors(cell: np.ndarray, limit: float) -> np.ndarray:
    """Return one of each pair ±k of reciprocal vectors with 0 < |k| < limit, [n_k, 3]."""
    reciprocal = 2 * np.pi * np.linalg.inv(cell).T
    n_max = np.floor(limit * np.linalg.norm(cell, axis=1) / (2 * np.pi)).astype(int) + 1
    axes = [np.arange(-n, n + 1) for n in n_max]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    first = (index != 0).argmax(axis=1)
    is_half = index[np.arange(len(index)), first] > 0
    vectors = index[is_half] @ reciprocal
    return vectors[np.linalg.norm(vectors, axis=1) < limit]


def reciprocal_sum(
    positions: np.ndarray, cell: np.ndarray, charges: np.ndarray, alpha: float
) -> dict:
    """Return what ``ReciprocalSum.compute`` returns, from explicit sums over atoms and vectors."""
    volume = abs(np.linalg.det(cell))
    k = half_space_vectors(cell, 2 * np.pi * alpha)
    k_squared = np.einsum("ka,ka->k", k, k)
    weight = 4 * np.pi / volume * np.exp(-k_squared / (4 * alpha**2)) / k_squared
    phases = np.exp(1j * positions @ k.T)  # [n_atoms, n_k]
    structure = (charges[:, None] * phases.conj()).sum(axis=0)
    field = weight * structure * phases
    factor = np.eye(3) - np.einsum("k,ka,kb->kab", 1 / (2 * alpha**2) + 2 / k_squared, k, k)
    energies = COULOMB_CONSTANT * charges * field.real.sum(axis=1)
    virials = COULOMB_CONSTANT * np.einsum("i,ik,kab->iab", charges, field.real, factor)
    return {
        "energy": energies.sum(),
        "energies": energies,
        "potentials": 2 * COULOMB_CONSTANT * field.real.sum(axis=1),
        "forces": 2 * COULOMB_CONSTANT * charges[:, None] * (field.imag @ k),
        "virial": virials.sum(axis=0),
        "virials": virials,
    }


def real_space_energy(
    positions: np.ndarray, cell: np.ndarray, charges: np.ndarray, alpha: float
) -> float:
    """Return pair energy with erfc(alpha d)/d, self energy and neutralizing background of the Ewald sum, eV."""
    cutoff = 6.5 / alpha  # erfc(6.5) = 4e-20
    n_max = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(cell), axis=0)).astype(int) + 1
    axes = [np.arange(-n, n + 1) for n in n_max]
    shifts = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3) @ cell
    energy = 0.0
    for i in range(len(charges)):
        distances = np.linalg.norm(
            positions[None, :, :] - positions[i] + shifts[:, None, :], axis=2
        )
        distances[distances < 1e-9] = np.inf
        energy += 0.5 * charges[i] * np.sum(charges * erfc(alpha * distances) / distances)
    energy -= alpha / np.sqrt(np.pi) * np.sum(charges**2)
    energy -= np.pi * charges.sum() ** 2 / (2 * alpha**2 * abs(np.linalg.det(cell)))
    return COULOMB_CONSTANT * energy


def random_system(n_atoms: int, cell: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions anywhere in space and neutral charges of order one."""
    rng = np.random.default_rng(seed)
    positions = rng.uniform(-1.5, 2.5, (n_atoms, 3)) @ cell
    charges = rng.choice([-1.0, 1.0], n_atoms)
    return positions, charges - charges.mean()
