import numpy as np
import pytest

from qnep.conventions import COULOMB_CONSTANT
from qnep.train.ewald_matrices import (
    VIRIAL_COMPONENTS,
    add_real_space,
    reciprocal_matrices,
    wave_vectors,
)

CELL = np.array([[6.0, 0.3, 0.0], [0.2, 6.5, -0.4], [0.0, 0.5, 7.0]])
ALPHA = np.pi / 5.0


def random_atoms() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    charges = random.normal(size=6)
    return random.uniform(size=(6, 3)) @ CELL, charges - charges.mean()


def energy(positions: np.ndarray, cell: np.ndarray, charges: np.ndarray) -> float:
    return 0.5 * charges @ reciprocal_matrices(positions, cell, ALPHA, False)[0] @ charges


def test_energy_is_the_sum_over_structure_factors():
    positions, charges = random_atoms()
    k = wave_vectors(CELL, ALPHA)
    k2 = (k**2).sum(axis=1)
    factors = np.exp(-1j * positions @ k.T).T @ charges
    volume = abs(np.linalg.det(CELL))
    terms = 4 * np.pi / volume * np.exp(-k2 / (4 * ALPHA**2)) / k2 * abs(factors) ** 2
    assert energy(positions, CELL, charges) == pytest.approx(
        COULOMB_CONSTANT * terms.sum(), rel=1e-12
    )


def test_wave_vectors_are_half_of_a_sphere():
    k = wave_vectors(CELL, ALPHA)
    assert (np.linalg.norm(k, axis=1) < 2 * np.pi * ALPHA).all()
    both = np.round(np.concatenate([k, -k]), 9)
    assert len(np.unique(both, axis=0)) == 2 * len(k)


def test_forces_and_virial_are_derivatives():
    positions, charges = random_atoms()
    matrices = reciprocal_matrices(positions, CELL, ALPHA, True)
    forces = -charges[:, None] * (matrices[1:4] @ charges).T
    step = 1e-4  # error h^2/6 E''' is about 1e-8 eV/Å
    for atom, axis in ((0, 0), (3, 2)):
        moved = [positions.copy(), positions.copy()]
        moved[0][atom, axis] += step
        moved[1][atom, axis] -= step
        difference = energy(moved[0], CELL, charges) - energy(moved[1], CELL, charges)
        assert forces[atom, axis] == pytest.approx(-difference / (2 * step), abs=1e-6)
    virial = [0.5 * charges @ matrices[4 + c] @ charges for c in range(6)]
    for component, (a, b) in enumerate(VIRIAL_COMPONENTS):
        strained = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += 0.5 * sign * 1e-5
            strain[b, a] += 0.5 * sign * 1e-5
            strained.append(energy(positions @ strain, CELL @ strain, charges))
        # the set of wave vectors is cut off where terms are 5e-5 of the first, and may change by a vector
        assert virial[component] == pytest.approx(-(strained[0] - strained[1]) / 2e-5, abs=1e-4)


def test_full_sum_gives_the_madelung_constant():
    """Mode 1 of rock salt: energy per ion pair -1.7475646 K / d at neighbour distance d, cut off at erfc(pi)."""
    from vesin import NeighborList

    distance, cutoff = 2.8, 5.6 * 1.4
    alpha = np.pi / cutoff
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
    positions, cell = corners * distance, 2 * distance * np.eye(3)
    charges = (-1.0) ** corners.sum(axis=1)
    matrices = reciprocal_matrices(positions, cell, alpha, False)
    first, second, vectors = NeighborList(cutoff=cutoff, full_list=True).compute(
        points=positions, box=cell, periodic=True, quantities="ijD"
    )
    add_real_space(matrices, first.astype(int), second.astype(int), vectors, alpha)
    found = 0.5 * charges @ matrices[0] @ charges / 4
    # both truncations leave terms of relative size 5e-5
    assert found == pytest.approx(-1.7475646 * COULOMB_CONSTANT / distance, rel=1e-4)
