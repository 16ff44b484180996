"""The iterative charge solver against dense algebra, an exact Ewald sum, plates and differences."""

from __future__ import annotations

import numpy as np
import pytest
from coulomb_matrix import COULOMB_CONSTANT, all_pairs, dense_solution, hessian

from qnep import _core

VACUUM_PERMITTIVITY = 1 / (4 * np.pi * COULOMB_CONSTANT)  # e/(V Å)
CELL = np.array([[9.3, 0.4, -0.6], [1.7, 10.1, 0.3], [-1.3, 0.8, 24.0]])
CUTOFF = 9.0
ALPHA = np.pi / CUTOFF


class System:
    """Atoms of two kinds that do not sit on each other, in a triclinic cell with some vacuum along c."""

    def __init__(self, n_atoms: int, seed: int):
        generator = np.random.default_rng(seed)
        grid = np.stack(np.meshgrid(range(3), range(3), range(5), indexing="ij"), axis=-1).reshape(
            -1, 3
        )
        fractions = (grid[:n_atoms] + 0.15 * generator.uniform(-1, 1, (n_atoms, 3))) / [3, 3, 8]
        self.positions = fractions @ CELL
        self.electronegativities = generator.uniform(-3, 9, n_atoms)
        self.hardnesses = generator.uniform(5, 10, n_atoms)
        self.widths = generator.uniform(0.3, 1.3, n_atoms)
        self.pairs = all_pairs(self.positions, CELL, CUTOFF)

    def arguments(self, positions=None, cell=CELL):
        """Of `solve` and `evaluate`, up to the widths."""
        positions = self.positions if positions is None else positions
        return positions, cell, self.electronegativities, self.hardnesses, self.widths


def make_solver(system, slab_axis=None, kspace="ewald", tolerance=1e-10, accuracy=1e-5):
    solver = _core.ChargeEquilibration(
        ALPHA,
        cutoff=CUTOFF,
        kspace=kspace,
        slab_axis=-1 if slab_axis is None else slab_axis,
        tolerance=tolerance,
        accuracy=accuracy,
    )
    solver.set_pairs(*system.pairs)
    return solver


def total_charge(n_atoms, charge=0.0):
    return np.ones((1, n_atoms)), np.array([charge])


@pytest.mark.parametrize("slab_axis", [None, 2])
@pytest.mark.parametrize("n_constraints", [1, 3])
def test_equals_dense_solution(slab_axis, n_constraints):
    system = System(40, seed=1)
    weights = np.random.default_rng(2).uniform(0, 1, (n_constraints, 40))
    weights[0] = 1.0
    totals = np.array([0.0, 0.4, -0.3])[:n_constraints]
    result = make_solver(system, slab_axis).solve(*system.arguments(), weights, totals)
    matrix = hessian(
        system.positions, CELL, system.hardnesses, system.widths, ALPHA, CUTOFF, slab_axis
    )
    charges, multipliers = dense_solution(matrix, system.electronegativities, weights, totals)
    # The tolerance of the solver is 1e-10 e.
    np.testing.assert_allclose(result["charges"], charges, rtol=0, atol=1e-9)
    np.testing.assert_allclose(result["multipliers"], multipliers, rtol=0, atol=1e-7)
    energy = system.electronegativities @ charges + 0.5 * charges @ matrix @ charges
    assert result["energy"] == pytest.approx(energy, abs=1e-9)
    assert np.abs(weights @ result["charges"] - totals).max() < 1e-12


def test_a_kept_pair_list_gives_the_charges_of_a_new_one():
    """Few widths, whose terms are interpolated; atoms move and swap their kinds while the list, wide enough, stays."""
    system = System(40, seed=21)
    kinds = np.random.default_rng(22).integers(0, 3, 40)
    system.pairs = all_pairs(system.positions, CELL, CUTOFF + 0.5)
    weights, totals = total_charge(40, 0.2)
    solver = make_solver(system)
    for seed in range(4):
        generator = np.random.default_rng(seed)
        system.positions = system.positions + generator.uniform(-0.05, 0.05, (40, 3))
        if seed % 2:
            kinds = generator.permutation(kinds)
        system.widths = np.array([0.4, 0.8, CUTOFF / (2 * np.pi)])[kinds]
        result = solver.solve(*system.arguments(), weights, totals)
        matrix = hessian(system.positions, CELL, system.hardnesses, system.widths, ALPHA, CUTOFF)
        charges = dense_solution(matrix, system.electronegativities, weights, totals)[0]
        # The interpolation is good to 1e-9 V/e for each of some hundred pairs of an atom, hardnesses are 5 V/e.
        np.testing.assert_allclose(result["charges"], charges, rtol=0, atol=1e-8)
        fresh = make_solver(system)
        expected = fresh.solve(*system.arguments(), weights, totals)
        for name in ("charges", "forces", "virial"):
            np.testing.assert_allclose(result[name], expected[name], rtol=0, atol=1e-8)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_positions_that_are_no_numbers_are_an_error(wrong):
    """They find their way through the interpolation and the sums to the residual."""
    system = System(40, seed=1)
    system.widths[:] = 0.5
    positions = system.positions.copy()
    positions[7, 1] = wrong
    with pytest.raises(_core.ConvergenceError, match="did not converge in 0 iterations"):
        make_solver(system).solve(*system.arguments(positions), *total_charge(40))


def test_error_bound_holds():
    system = System(40, seed=1)
    weights, totals = total_charge(40)
    matrix = hessian(system.positions, CELL, system.hardnesses, system.widths, ALPHA, CUTOFF)
    exact = dense_solution(matrix, system.electronegativities, weights, totals)[0]
    for tolerance in (1e-2, 1e-4, 1e-6):
        result = make_solver(system, tolerance=tolerance).solve(
            *system.arguments(), weights, totals
        )
        error = np.sqrt(np.mean((result["charges"] - exact) ** 2))
        assert error <= result["error_bound"] <= tolerance


def test_energy_is_that_of_gaussian_charges():
    """A split at twice the alpha, twice the cutoff in units of it: what is left out is what erfc(pi) leaves."""
    system = System(30, seed=4)
    charges = np.random.default_rng(5).uniform(-1, 1, 30)
    charges -= charges.mean()
    result = make_solver(system).evaluate(*system.arguments(), charges)
    matrix = hessian(system.positions, CELL, system.hardnesses, system.widths, 0.7, 16.0)
    expected = system.electronegativities @ charges + 0.5 * charges @ matrix @ charges
    # 30 charges of 0.6 e, terms of 14/9 * 9e-6 eV of random sign.
    assert result["energy"] == pytest.approx(expected, abs=5e-4)


def test_mesh_gives_the_same_charges():
    system = System(45, seed=6)
    weights, totals = total_charge(45)
    ewald = make_solver(system).solve(*system.arguments(), weights, totals)
    mesh = make_solver(system, kspace="pppm", accuracy=1e-6).solve(
        *system.arguments(), weights, totals
    )
    # The mesh's potentials are good to 1e-6 V, hardnesses are 5 V/e and more.
    np.testing.assert_allclose(mesh["charges"], ewald["charges"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kspace", ["ewald", "pppm"])
@pytest.mark.parametrize("slab_axis", [None, 2])
def test_forces_and_virial_are_derivatives(kspace, slab_axis):
    """Central differences of the minimum; tolerance of the charges 1e-10 enters squared."""
    system = System(24, seed=7)
    weights, totals = total_charge(24)
    solver = make_solver(system, slab_axis, kspace)

    def solve(strain=None, shift=0.0):
        deform = np.eye(3) if strain is None else np.eye(3) + strain
        arguments = system.arguments((system.positions + shift) @ deform.T, CELL @ deform.T)
        return solver.solve(*arguments, weights, totals)

    result = solve()
    for i, a in [(0, 0), (11, 1), (23, 2)]:
        shift = np.zeros((24, 3))
        shift[i, a] = 1e-4
        slope = (solve(shift=shift)["energy"] - solve(shift=-shift)["energy"]) / 2e-4
        assert result["forces"][i, a] == pytest.approx(-slope, abs=1e-6)
    for a, b in np.ndindex(3, 3):
        strain = np.zeros((3, 3))
        strain[a, b] = 1e-5
        slope = (solve(strain)["energy"] - solve(-strain)["energy"]) / 2e-5
        assert result["virial"][a, b] == pytest.approx(-slope, abs=5e-6)


def test_multiplier_is_the_derivative_with_the_total():
    system = System(20, seed=8)
    energies = [
        make_solver(system).solve(*system.arguments(), *total_charge(20, charge))["energy"]
        for charge in (-1e-3, 0.0, 1e-3)
    ]
    multiplier = make_solver(system).solve(*system.arguments(), *total_charge(20))["multipliers"][0]
    assert multiplier == pytest.approx((energies[2] - energies[0]) / 2e-3, abs=1e-6)


def test_warm_start_saves_iterations():
    """Along a smooth path the fifth solution starts from a cubic through four."""
    system = System(45, seed=9)
    weights, totals = total_charge(45)
    velocities = np.random.default_rng(10).normal(0, 2e-3, (45, 3))
    solver = make_solver(system, tolerance=1e-6)
    iterations = [
        solver.solve(*system.arguments(system.positions + t * velocities), weights, totals)[
            "n_iterations"
        ]
        for t in range(6)
    ]
    assert iterations[-1] < iterations[0] / 2
    solver.reset()
    again = solver.solve(*system.arguments(system.positions + 5 * velocities), weights, totals)
    assert again["n_iterations"] > iterations[-1]


def plates(gap, spacing, width, hardness, axis=2, rotation=None, edge=10.0, voltage=8.0):
    """Two square lattices with a voltage between them.

    Returns the charge density of the positive one, e/nm², positions, cell and charges.
    """
    n_side = round(edge / spacing)
    edge = n_side * spacing
    grid = np.stack(np.meshgrid(range(n_side), range(n_side), indexing="ij"), axis=-1)
    grid = grid.reshape(-1, 2) * spacing
    heights = np.repeat([30.0, 30.0 + gap], len(grid))
    positions = np.column_stack([np.tile(grid, (2, 1)), heights])
    cell = np.diag([edge, edge, gap + 60.0])
    roll = axis - 2
    positions, cell = np.roll(positions, roll, axis=1), np.roll(cell, (roll, roll), axis=(0, 1))
    if rotation is not None:
        positions, cell = positions @ rotation.T, cell @ rotation.T
    n_atoms = len(positions)
    solver = _core.ChargeEquilibration(
        ALPHA, cutoff=CUTOFF, kspace="pppm", slab_axis=axis, tolerance=1e-7
    )
    solver.set_pairs(*all_pairs(positions, cell, CUTOFF))
    result = solver.solve(
        positions,
        np.ascontiguousarray(cell),
        -np.repeat([0.5 * voltage, -0.5 * voltage], n_atoms // 2),
        np.full(n_atoms, hardness),
        np.full(n_atoms, width),
        *total_charge(n_atoms),
    )
    density = result["charges"][: n_atoms // 2].sum() / edge**2 * 100
    return density, positions, cell, result["charges"]


def density_of_smooth_sheets(gap, width, hardness, area_per_atom, voltage=8.0):
    """Charge density of two sheets of overlapping Gaussians, e/nm².

    A sheet's own Gaussian profile takes 2 width/sqrt(pi) off the gap, its hardness adds J A/(2 pi K).
    """
    effective = (
        gap - 2 * width / np.sqrt(np.pi) + 2 * VACUUM_PERMITTIVITY * hardness * area_per_atom
    )
    return 100 * VACUUM_PERMITTIVITY * voltage / effective


@pytest.mark.parametrize("gap", [20.0, 40.0])
def test_plates_approach_the_ideal_capacitor(gap):
    """0.221 and 0.1105 e/nm² for 8 V: the deviation halves with the width of ever finer sheets."""
    ideal = 100 * VACUUM_PERMITTIVITY * 8.0 / gap
    assert ideal == pytest.approx({20.0: 0.2211, 40.0: 0.1105}[gap], abs=1e-4)
    deviations = []
    for width in (1.0, 0.5):
        density = plates(gap, 2 * width, width, hardness=0.01)[0]
        # Lattice sums of Gaussians at half the spacing differ from a smooth sheet by exp(-pi^2) and the limit of k.
        assert density == pytest.approx(
            density_of_smooth_sheets(gap, width, 0.01, 4 * width**2), rel=2e-3
        )
        deviations.append(density / ideal - 1)
    assert deviations[1] == pytest.approx(deviations[0] / 2, rel=0.1)


@pytest.mark.parametrize(("gap", "published"), [(20.0, 0.212), (40.0, 0.106)])
def test_plates_with_published_parameters(gap, published):
    """Lithium of the published study (hardness 10.024 V/e, width 1.28 Å) on its (001) lattice, 3.51 Å."""
    density = plates(gap, 3.51, 1.28, 10.024)[0]
    assert density == pytest.approx(density_of_smooth_sheets(gap, 1.28, 10.024, 3.51**2), rel=2e-3)
    assert density == pytest.approx(published, rel=0.05)


def test_plates_in_any_direction_and_size():
    """Density is the same for every axis, a rotated cell and larger plates."""
    reference = plates(20.0, 2.5, 1.28, 10.024)[0]
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    for other in (
        plates(20.0, 2.5, 1.28, 10.024, axis=0)[0],
        plates(20.0, 2.5, 1.28, 10.024, axis=1)[0],
        plates(20.0, 2.5, 1.28, 10.024, rotation=rotation)[0],
        plates(20.0, 2.5, 1.28, 10.024, edge=17.5)[0],
    ):
        assert other == pytest.approx(reference, rel=1e-4)  # meshes of other shape


def test_potential_between_plates_is_linear():
    """Probes without charge see a constant field of the ideal strength for the charge on the plates."""
    density, positions, cell, charges = plates(20.0, 2.5, 1.28, 10.024)
    probes = np.column_stack([np.full(9, 1.1), np.full(9, 0.7), np.linspace(36.0, 44.0, 9)])
    everything = np.vstack([positions, probes])
    with_probes = np.concatenate([charges, np.zeros(9)])
    fields = _core.ReciprocalSum("pppm", ALPHA, 1e-6).compute(everything, cell, with_probes)
    dipole = charges @ positions[:, 2]
    slab = 4 * np.pi * COULOMB_CONSTANT * dipole / np.linalg.det(cell)
    # The mesh carries the Gaussians of width 1/(2 alpha), so that the rest, erfc(alpha d), is negligible 6 Å away.
    potential = fields["potentials"][-9:] + slab * probes[:, 2]
    slopes = np.diff(potential) / np.diff(probes[:, 2])
    expected = -density / 100 / VACUUM_PERMITTIVITY
    np.testing.assert_allclose(slopes, expected, rtol=2e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hardnesses": 0.0}, "hardnesses must be positive, got 0.000000 for atom 0"),
        ({"hardnesses": -1.0}, "hardnesses must be positive"),
        ({"widths": 0.0}, "widths of the Gaussian charges must be positive"),
        ({"widths": np.nan}, "widths of the Gaussian charges must be positive, got nan"),
    ],
)
def test_wrong_parameters(changes, message):
    system = System(10, seed=1)
    for name, value in changes.items():
        getattr(system, name)[0] = value
    with pytest.raises(ValueError, match=message):
        make_solver(system).solve(*system.arguments(), *total_charge(10))


def test_dependent_constraints_are_refused():
    system = System(10, seed=1)
    with pytest.raises(ValueError, match="depend on each other"):
        make_solver(system).solve(*system.arguments(), np.ones((2, 10)), np.zeros(2))
    with pytest.raises(ValueError, match="depend on each other or have no atoms"):
        make_solver(system).solve(
            *system.arguments(), np.vstack([np.ones(10), np.zeros(10)]), np.zeros(2)
        )


def test_too_few_iterations_are_an_error():
    system = System(40, seed=1)
    solver = _core.ChargeEquilibration(ALPHA, cutoff=CUTOFF, max_iterations=1)
    solver.set_pairs(*system.pairs)
    with pytest.raises(_core.ConvergenceError, match=r"did not converge in 1 iterations.*wrong by"):
        solver.solve(*system.arguments(), *total_charge(40))


def test_wrong_settings():
    with pytest.raises(ValueError, match="alpha must be positive"):
        _core.ChargeEquilibration(0.0)
    with pytest.raises(ValueError, match="slab axis must be 0, 1, 2"):
        _core.ChargeEquilibration(0.3, slab_axis=3)
    with pytest.raises(ValueError, match="tolerance of the charges"):
        _core.ChargeEquilibration(0.3, tolerance=0.0)


def test_earlier_systems_leave_no_trace():
    """A solver remembers iterations; other atoms, other parameters and other numbers of atoms get the right charges."""
    solver = make_solver(System(40, seed=1))
    for n_atoms, seed in ((40, 2), (40, 3), (25, 4), (40, 5)):
        system = System(n_atoms, seed)
        weights, totals = total_charge(n_atoms, 0.2)
        solver.set_pairs(*system.pairs)
        result = solver.solve(*system.arguments(), weights, totals)
        matrix = hessian(system.positions, CELL, system.hardnesses, system.widths, ALPHA, CUTOFF)
        charges = dense_solution(matrix, system.electronegativities, weights, totals)[0]
        np.testing.assert_allclose(result["charges"], charges, rtol=0, atol=1e-9)


def test_earlier_iterations_precondition_later_ones():
    """The same matrix with other right-hand sides: each needs fewer iterations than the first."""
    system = System(45, seed=9)
    weights, totals = total_charge(45)
    generator = np.random.default_rng(3)
    solver = make_solver(system, tolerance=1e-8)
    positions, cell, _, hardnesses, widths = system.arguments()
    iterations = [
        solver.solve(
            positions, cell, generator.uniform(-3, 9, 45), hardnesses, widths, weights, totals
        )["n_iterations"]
        for _ in range(6)
    ]
    assert max(iterations[3:]) < 0.7 * iterations[0]
