"""The particle mesh against the Ewald sum that it approximates, and as a gradient of its own energy."""

from __future__ import annotations

import numpy as np
import pytest
from electrostatics_reference import random_system, reciprocal_sum

from qnep import _core

CELLS = {
    "cube": np.diag([21.5, 21.5, 21.5]),
    "plate": np.diag([9.5, 41.3, 25.2]),
    "triclinic": np.array([[22.6, 0.8, -2.2], [8.4, 18.2, 0.6], [-6.6, 4.4, 27.4]]),
    "left-handed": np.array([[8.4, 18.2, 0.6], [22.6, 0.8, -2.2], [-6.6, 4.4, 27.4]]),
}


def pppm(positions, cell, charges, alpha, accuracy, n_threads=1, virials=False):
    solver = _core.ReciprocalSum("pppm", alpha, accuracy, n_threads)
    return solver.compute(positions, cell, charges, virials=virials)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("accuracy", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("alpha", [np.pi / 8, np.pi / 5])
def test_keeps_the_requested_accuracy(name, accuracy, alpha):
    """Root mean square over atoms of the force error, at the density for which the accuracy is promised.

    A sample of 1,000 atoms knows its root mean square to some percent, hence the factor 1.15.
    """
    cell = CELLS[name]
    positions, charges = random_system(int(0.1 * abs(np.linalg.det(cell))), cell, seed=11)
    expected = _core.ReciprocalSum("ewald", alpha).compute(positions, cell, charges)
    result = pppm(positions, cell, charges, alpha, accuracy)
    error = np.sqrt(np.mean(np.sum((result["forces"] - expected["forces"]) ** 2, axis=1)))
    assert error < 1.15 * accuracy
    # One charge's energy error is of the order of its force error times the mesh spacing of about 1 Å.
    assert result["energy"] == pytest.approx(expected["energy"], abs=accuracy * len(charges) ** 0.5)
    potential_error = np.sqrt(np.mean((result["potentials"] - expected["potentials"]) ** 2))
    assert potential_error < accuracy


@pytest.mark.parametrize("name", ["plate", "left-handed"])
def test_every_quantity_equals_explicit_sum(name):
    """At the finest accuracy; the virials carry an extra length of about 10 Å."""
    cell, alpha, accuracy = CELLS[name], 0.3, 1e-8
    positions, charges = random_system(40, cell, seed=2)
    charges += 0.05
    result = pppm(positions, cell, charges, alpha, accuracy, virials=True)
    expected = reciprocal_sum(positions, cell, charges, alpha)
    for quantity, value in expected.items():
        np.testing.assert_allclose(result[quantity], value, rtol=0, atol=1e-6, err_msg=quantity)


@pytest.mark.parametrize("accuracy", [1e-2, 1e-5])
def test_forces_and_virial_are_derivatives_of_the_mesh_energy(accuracy):
    """Also at a coarse mesh, where the energy is not that of the Ewald sum: h^2 times third derivatives of order 10."""
    cell, alpha, step = CELLS["triclinic"], 0.41, 1e-4
    positions, charges = random_system(60, cell, seed=5)
    result = pppm(positions, cell, charges, alpha, accuracy)

    def energy(displaced=positions, strain=None):
        deform = np.eye(3) if strain is None else np.eye(3) + strain
        return pppm(displaced @ deform.T, cell @ deform.T, charges, alpha, accuracy)["energy"]

    for i, a in [(0, 0), (17, 1), (59, 2)]:
        shift = np.zeros_like(positions)
        shift[i, a] = step
        slope = (energy(positions + shift) - energy(positions - shift)) / (2 * step)
        assert result["forces"][i, a] == pytest.approx(-slope, abs=1e-6)
    for a, b in [(0, 0), (1, 2), (2, 1)]:
        strain = np.zeros((3, 3))
        strain[a, b] = 1e-6  # so small that no vector crosses the limit
        slope = (energy(strain=strain) - energy(strain=-strain)) / 2e-6
        # Energies near 200 eV are known to 1e-12 of themselves: 2e-10 / 2e-6 = 1e-4 at worst.
        assert result["virial"][a, b] == pytest.approx(-slope, abs=2e-4)


def test_site_quantities_add_up():
    cell = CELLS["triclinic"]
    positions, charges = random_system(100, cell, seed=6)
    result = pppm(positions, cell, charges, 0.4, 1e-3, virials=True)
    assert result["energies"].sum() == pytest.approx(result["energy"], abs=1e-10)
    np.testing.assert_allclose(result["virials"].sum(axis=0), result["virial"], rtol=0, atol=1e-10)
    assert charges @ result["potentials"] == pytest.approx(2 * result["energy"], abs=1e-10)


def test_net_force_is_small():
    """Errors of single forces add up like random numbers."""
    cell, accuracy = CELLS["cube"], 1e-4
    positions, charges = random_system(990, cell, seed=7)
    net = pppm(positions, cell, charges, 0.48, accuracy)["forces"].sum(axis=0)
    assert np.linalg.norm(net) < 3 * accuracy * np.sqrt(990)


def test_wrapping_permutation_and_threads():
    cell, accuracy = CELLS["triclinic"], 1e-3
    positions, charges = random_system(300, cell, seed=9)
    result = pppm(positions, cell, charges, 0.4, accuracy)
    wrapped = (positions @ np.linalg.inv(cell) % 1.0) @ cell
    order = np.random.default_rng(1).permutation(300)
    for other, reference in [
        (pppm(wrapped, cell, charges, 0.4, accuracy)["forces"], result["forces"]),
        (
            pppm(positions[order], cell, charges[order], 0.4, accuracy)["forces"],
            result["forces"][order],
        ),
    ]:
        np.testing.assert_allclose(other, reference, rtol=0, atol=1e-10)
    two = pppm(positions, cell, charges, 0.4, accuracy, n_threads=2)
    np.testing.assert_array_equal(
        two["forces"], result["forces"]
    )  # slabs do not depend on the threads


def test_translation_changes_less_than_the_accuracy():
    cell, accuracy = CELLS["cube"], 1e-4
    positions, charges = random_system(990, cell, seed=10)
    here = pppm(positions, cell, charges, 0.48, accuracy)["forces"]
    there = pppm(positions + [0.31, 0.17, -0.23], cell, charges, 0.48, accuracy)["forces"]
    # Both have independent errors.
    assert np.sqrt(np.mean(np.sum((here - there) ** 2, axis=1))) < 1.5 * accuracy


def test_changing_cell_is_followed():
    """One solver, used again for other cells and other numbers of atoms, forgets the earlier ones."""
    solver = _core.ReciprocalSum("pppm", 0.4, 1e-4)
    for name, n_atoms in [("cube", 90), ("triclinic", 40), ("cube", 120)]:
        positions, charges = random_system(n_atoms, CELLS[name], seed=n_atoms)
        again = solver.compute(positions, CELLS[name], charges)
        fresh = pppm(positions, CELLS[name], charges, 0.4, 1e-4)
        np.testing.assert_array_equal(again["forces"], fresh["forces"])


def test_auto_takes_ewald_for_few_atoms_and_the_mesh_for_many():
    for edge, expected in [(8.0, "Ewald sum"), (31.0, "particle mesh")]:
        cell = np.eye(3) * edge
        positions, charges = random_system(int(0.1 * edge**3), cell, seed=1)
        solver = _core.ReciprocalSum("auto", 0.48, 1e-4)
        solver.compute(positions, cell, charges)
        assert solver.describe().startswith(expected)


def test_tiny_and_empty_systems():
    solver = _core.ReciprocalSum("pppm", 0.4, 1e-4)
    assert solver.compute(np.zeros((0, 3)), np.eye(3) * 9.0, np.zeros(0))["energy"] == 0.0
    assert (
        solver.compute(np.zeros((1, 3)), np.eye(3) * 2.0, np.ones(1))["energy"] == 0.0
    )  # no vector in the sphere


def test_bad_accuracy_and_huge_cells():
    with pytest.raises(ValueError, match="accuracy of the particle mesh"):
        _core.ReciprocalSum("pppm", 0.4, 0.0)
    with pytest.raises(ValueError, match="less vacuum"):
        _core.ReciprocalSum("pppm", 0.4, 1e-4).compute(
            np.zeros((1, 3)), np.eye(3) * 1e5, np.ones(1)
        )
