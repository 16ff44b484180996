"""The plain Ewald sum against closed forms, explicit sums and differences."""

from __future__ import annotations

import numpy as np
import pytest
from electrostatics_reference import (
    COULOMB_CONSTANT,
    half_space_vectors,
    random_system,
    real_space_energy,
    reciprocal_sum,
)

from qnep import _core

CELLS = {
    "cube": np.diag([9.7, 9.7, 9.7]),
    "plate": np.diag([6.1, 31.3, 8.2]),
    "triclinic": np.array([[11.3, 0.4, -1.1], [4.2, 9.1, 0.3], [-3.3, 2.2, 13.7]]),
    "left-handed": np.array([[4.2, 9.1, 0.3], [11.3, 0.4, -1.1], [-3.3, 2.2, 13.7]]),
}


def ewald(positions, cell, charges, alpha, n_threads=1, virials=False):
    solver = _core.ReciprocalSum("ewald", alpha, n_threads=n_threads)
    return solver.compute(positions, cell, charges, virials=virials)


@pytest.mark.parametrize(
    ("basis", "madelung"),
    [
        # Energy per ion pair in units of K/d, d the shortest distance: OEIS A085469 and Borwein et al., "Lattice Sums
        # Then and Now" (2013), table 1.3, for CsCl.
        ("NaCl", 1.7475645946331822),
        ("CsCl", 1.7626747730709218),
    ],
)
def test_madelung_constant(basis, madelung):
    """Full energy = reciprocal + real + self; alpha so large that the limit of k, exp(-pi^2), is what remains."""
    edge, alpha = 4.0, 0.9
    if basis == "NaCl":
        grid = np.stack(np.meshgrid(*[range(2)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        positions, charges, distance = grid * edge / 2, (-1.0) ** grid.sum(axis=1), edge / 2
    else:
        positions, charges = np.array([[0, 0, 0], [0.5, 0.5, 0.5]]) * edge, np.array([1.0, -1.0])
        distance = edge * np.sqrt(3) / 2
    cell = np.eye(3) * edge
    energy = ewald(positions, cell, charges, alpha)["energy"] + real_space_energy(
        positions, cell, charges, alpha
    )
    pairs = len(charges) / 2
    # The terms left out have weights below exp(-pi^2) = 5e-5 of the first ones.
    assert -energy * distance / (COULOMB_CONSTANT * pairs) == pytest.approx(madelung, rel=1e-4)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("n_atoms", [1, 63, 64, 130])
def test_equals_explicit_sum(name, n_atoms):
    cell, alpha = CELLS[name], 0.41
    positions, charges = random_system(n_atoms, cell, seed=n_atoms)
    charges += 0.03  # a charged cell has a background: k = 0 is left out in both
    result = ewald(positions, cell, charges, alpha, virials=True)
    expected = reciprocal_sum(positions, cell, charges, alpha)
    for quantity, value in expected.items():
        np.testing.assert_allclose(
            result[quantity], value, rtol=0, atol=1e-11 * n_atoms**0.5, err_msg=quantity
        )


def test_two_threads_agree_with_one():
    cell = CELLS["triclinic"]
    positions, charges = random_system(500, cell, seed=3)
    one, two = (ewald(positions, cell, charges, 0.41, n_threads=n) for n in (1, 2))
    np.testing.assert_allclose(one["forces"], two["forces"], rtol=0, atol=1e-11)


def test_forces_potentials_and_virial_are_derivatives():
    """Central differences with h = 1e-4: their error is h^2 times third derivatives of order 10."""
    cell, alpha, step = CELLS["triclinic"], 0.41, 1e-4
    positions, charges = random_system(12, cell, seed=5)
    result = ewald(positions, cell, charges, alpha)

    def energy(displaced=positions, strain=None, changed=charges):
        deform = np.eye(3) if strain is None else np.eye(3) + strain
        return ewald(displaced @ deform.T, cell @ deform.T, changed, alpha)["energy"]

    for i, a in [(0, 0), (3, 1), (11, 2)]:
        shift = np.zeros_like(positions)
        shift[i, a] = step
        slope = (energy(positions + shift) - energy(positions - shift)) / (2 * step)
        assert result["forces"][i, a] == pytest.approx(-slope, abs=1e-6)
    for i in (0, 7):
        shift = np.eye(12)[i] * step
        slope = (energy(changed=charges + shift) - energy(changed=charges - shift)) / (2 * step)
        assert result["potentials"][i] == pytest.approx(
            slope, abs=1e-8
        )  # quadratic: no error but round-off
    for a, b in np.ndindex(3, 3):
        strain = np.zeros((3, 3))
        strain[a, b] = 1e-5  # so small that no vector crosses the limit
        slope = (energy(strain=strain) - energy(strain=-strain)) / 2e-5
        assert result["virial"][a, b] == pytest.approx(-slope, abs=1e-6)


def test_symmetries():
    cell, alpha = CELLS["triclinic"], 0.41
    positions, charges = random_system(70, cell, seed=8)
    result = ewald(positions, cell, charges, alpha)
    np.testing.assert_allclose(result["forces"].sum(axis=0), 0.0, atol=1e-11)

    moved = ewald(positions + [3.1, -40.0, 7.7], cell, charges, alpha)
    np.testing.assert_allclose(moved["forces"], result["forces"], rtol=0, atol=1e-11)

    order = np.random.default_rng(1).permutation(70)
    permuted = ewald(positions[order], cell, charges[order], alpha)
    np.testing.assert_allclose(permuted["forces"], result["forces"][order], rtol=0, atol=1e-11)

    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    rotated = ewald(positions @ rotation.T, cell @ rotation.T, charges, alpha)
    np.testing.assert_allclose(rotated["forces"], result["forces"] @ rotation.T, rtol=0, atol=1e-11)
    np.testing.assert_allclose(
        rotated["virial"], rotation @ result["virial"] @ rotation.T, rtol=0, atol=1e-10
    )

    doubled = ewald(
        np.vstack([positions, positions + cell[0]]),
        cell * [[2], [1], [1]],
        np.tile(charges, 2),
        alpha,
    )
    assert doubled["energy"] == pytest.approx(2 * result["energy"], abs=1e-9)


def test_number_of_vectors():
    """`describe` counts what the half space of the explicit sum holds."""
    cell, alpha = CELLS["triclinic"], 0.41
    solver = _core.ReciprocalSum("ewald", alpha)
    solver.compute(np.zeros((1, 3)), cell, np.ones(1))
    assert f", {len(half_space_vectors(cell, 2 * np.pi * alpha))} vectors" in solver.describe()


def test_cell_without_vectors_has_no_energy():
    result = ewald(np.zeros((1, 3)), np.eye(3) * 2.0, np.ones(1), alpha=0.4, virials=True)
    assert result["energy"] == 0.0
    assert not result["forces"].any()
    assert not result["virials"].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pme", 0.4), "method must be auto, ewald or pppm, got 'pme'"),
        (("ewald", 0.0), "Ewald parameter must be positive, got 0"),
        (("ewald", float("nan")), "Ewald parameter must be positive, got nan"),
        (("ewald", 0.4, 1e-4, 0), "number of threads must be positive, got 0"),
    ],
)
def test_wrong_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        _core.ReciprocalSum(*arguments)


def test_wrong_input():
    solver = _core.ReciprocalSum("ewald", 0.4)
    with pytest.raises(ValueError, match=r"charges must have shape \(2,\), got \(3,\)"):
        solver.compute(np.zeros((2, 3)), np.eye(3), np.zeros(3))
    with pytest.raises(ValueError, match="cell with a volume"):
        solver.compute(np.zeros((2, 3)), np.zeros((3, 3)), np.zeros(2))
    with pytest.raises(ValueError, match="cell with a volume"):
        solver.compute(np.zeros((2, 3)), np.full((3, 3), np.nan), np.zeros(2))
    with pytest.raises(ValueError, match="less vacuum, or the particle mesh"):
        solver.compute(np.zeros((2, 3)), np.eye(3) * 1e4, np.zeros(2))
