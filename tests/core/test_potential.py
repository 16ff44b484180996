"""The engine against an evaluation that shares nothing with it, against differences and against symmetries."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from nep_reference import Reference
from systems import CELLS, INVARIANT_FLAGS, ZBL, System, random_system, small_model

from qnep import _core

KINDS = {
    "nep3": {"version": 3},
    "nep4": {},
    "nep5": {"version": 5},
    "charge1": {"charge_mode": 1},
    "charge2": {"charge_mode": 2},
    "temperature": {"has_temperature": True},
}


def deviation_from_reference(model, types, positions, cell, temperature=0.0, total_charge=0.0):
    """Largest differences of descriptors (relative), energy per atom and charges."""
    reference = Reference(model, temperature)
    system = System(model, types, positions, cell, temperature=temperature)
    descriptors = reference.descriptors(types, positions, cell)
    result = system(positions, total_charge=total_charge)
    energy, charges = reference.energy(types, positions, cell, total_charge)
    deviations = [
        np.abs(system.evaluator.descriptors(positions, cell) - descriptors).max()
        / np.abs(descriptors).max(),
        abs(result["energy"] - energy) / len(types),
    ]
    if model.charge_mode:
        deviations.append(np.abs(result["charges"] - charges).max())
    return deviations


@pytest.mark.parametrize("flags", INVARIANT_FLAGS)
def test_descriptors_of_every_flag_set(flags, generator):
    """The 15 digits of the tabulated weights limit the agreement."""
    model = small_model(2, l_max=INVARIANT_FLAGS[flags])
    types, positions = random_system(CELLS["triclinic"], 9, 2, generator)
    deviations = deviation_from_reference(model, types, positions, CELLS["triclinic"])
    assert max(deviations) < 2e-11


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", KINDS)
def test_energies_of_every_kind(kind, cell, generator):
    model = small_model(3, **KINDS[kind])
    types, positions = random_system(CELLS[cell], 7, 3, generator)
    deviations = deviation_from_reference(
        model, types, positions, CELLS[cell], temperature=300.0, total_charge=0.3
    )
    assert max(deviations) < 1e-11


@pytest.mark.parametrize("form", ZBL)
def test_repulsion(form, generator):
    model = small_model(3, zbl=ZBL[form])
    types, positions = random_system(CELLS["cube"], 9, 3, generator, shortest=0.9)
    assert max(deviation_from_reference(model, types, positions, CELLS["cube"])) < 1e-11


def test_cutoffs_per_type(generator):
    model = small_model(3, radial_cutoff=[4.5, 3.7, 4.1], angular_cutoff=[3.1, 3.6, 2.9])
    types, positions = random_system(CELLS["triclinic"], 8, 3, generator)
    assert max(deviation_from_reference(model, types, positions, CELLS["triclinic"])) < 1e-11


def test_angular_cutoff_beyond_the_radial_one(generator):
    model = small_model(2, radial_cutoff=3.1, angular_cutoff=4.0)
    types, positions = random_system(CELLS["cube"], 8, 2, generator)
    assert max(deviation_from_reference(model, types, positions, CELLS["cube"])) < 1e-11


@pytest.mark.parametrize("basis_size", [(0, 0), (1, 1), (2, 3), (12, 9), (16, 12)])
def test_sizes_of_the_basis(basis_size, generator):
    model = small_model(2, basis_size=basis_size, n_max=(0, 0) if basis_size[0] == 0 else (6, 8))
    types, positions = random_system(CELLS["cube"], 6, 2, generator)
    assert max(deviation_from_reference(model, types, positions, CELLS["cube"])) < 1e-11


@pytest.mark.parametrize("n_neurons", [1, 3, 50, 130])
def test_sizes_of_the_network(n_neurons, generator):
    model = small_model(2, n_neurons=n_neurons, charge_mode=2)
    types, positions = random_system(CELLS["cube"], 5, 2, generator)
    assert max(deviation_from_reference(model, types, positions, CELLS["cube"])) < 1e-11


def test_one_atom_in_a_cell_far_below_the_cutoff():
    model = small_model(1, radial_cutoff=6.0, angular_cutoff=4.0, charge_mode=2)
    cell = np.array([[1.9, 0.1, 0.0], [0.3, 2.1, 0.2], [0.0, -0.2, 2.3]])
    positions = np.array([[0.1, 0.2, 0.3]])
    assert max(deviation_from_reference(model, np.array([0]), positions, cell)) < 1e-10
    result = System(model, [0], positions, cell)(positions)
    assert np.abs(result["forces"]).max() < 1e-11
    assert abs(result["charges"][0]) < 1e-14


def test_isolated_atom():
    model = small_model(2)
    positions = np.zeros((1, 3))
    result = System(model, [1], positions, np.eye(3) * 50.0)(positions)
    energy, _ = Reference(model).energy(np.array([1]), positions, np.eye(3) * 50.0)
    assert result["energy"] == pytest.approx(energy, abs=1e-12)
    assert np.all(result["forces"] == 0.0)


def central_differences(energy, n_atoms, step):
    """-dE/dx of all coordinates; `energy` takes displacements [n_atoms, 3]."""
    forces = np.empty((n_atoms, 3))
    for i in range(n_atoms):
        for c in range(3):
            shift = np.zeros((n_atoms, 3))
            shift[i, c] = step
            forces[i, c] = (energy(-shift) - energy(shift)) / (2 * step)
    return forces


STEP = 1e-4  # Å; truncation and rounding then both stay below 1e-7 eV/Å for energies of order 1 eV


@pytest.mark.parametrize("n_types", range(1, 7))
@pytest.mark.parametrize(
    "settings",
    [
        {"version": 3},
        {"version": 5, "zbl": (0.7, 1.9)},
        {"zbl": (0.5, 1.8, 0.65), "l_max": (4, 1, 1)},
        {"zbl": (0, 0), "l_max": (3, 0, 0, 1, 1, 1)},
        {"charge_mode": 2, "l_max": (4, 2, 1)},
        {"charge_mode": 2, "zbl": (0.7, 1.9), "l_max": (5, 1, 1, 1, 1, 1, 1)},
        {"has_temperature": True},
    ],
    ids=lambda settings: " ".join(settings),
)
def test_forces_and_virial_are_derivatives(settings, n_types, generator):
    model = small_model(n_types, **settings)
    cell = list(CELLS.values())[n_types % len(CELLS)]
    types, positions = random_system(cell, 6, n_types, generator, shortest=1.2)
    system = System(model, types, positions, cell, temperature=250.0)
    result = system(positions)

    def energy(shift):
        return system(positions + shift, forces=False)["energy"]

    forces = central_differences(energy, len(types), STEP)
    assert np.abs(result["forces"] - forces).max() < 1e-6

    virial = np.empty((3, 3))
    for a in range(3):
        for b in range(3):
            strains = [np.eye(3), np.eye(3)]
            strains[0][a, b] -= STEP
            strains[1][a, b] += STEP
            # r_b changes by strain[a, b] r_a: the virial's first index is that of the position
            low, high = (
                system(positions @ strain, cell @ strain, forces=False)["energy"]
                for strain in strains
            )
            virial[a, b] = (low - high) / (2 * STEP)
    assert np.abs(result["virial"] - virial).max() < 1e-5


def test_forces_of_the_full_coulomb_energy(generator):
    """Mode 1 truncates erfc(pi)/R = 2e-6 at the cutoff: where no pair crosses it the forces are exact derivatives."""
    model = small_model(3, charge_mode=1)
    types, positions = random_system(CELLS["triclinic"], 7, 3, generator)
    vectors = positions[:, None] - positions
    images = (
        np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3) @ CELLS["triclinic"]
    )
    distances = np.linalg.norm(vectors[..., None, :] + images, axis=-1)
    assert np.abs(distances - max(model.radial_cutoffs)).min() > 2 * STEP
    system = System(model, types, positions, CELLS["triclinic"])
    forces = central_differences(
        lambda shift: system(positions + shift, forces=False)["energy"], len(types), STEP
    )
    assert np.abs(system(positions)["forces"] - forces).max() < 1e-6


def test_without_the_mean_correction_forces_are_no_derivatives(generator):
    """The switch for old files does what it says: this is the difference that the correction makes."""
    model = small_model(3, charge_mode=2)
    types, positions = random_system(CELLS["cube"], 7, 3, generator)
    system = System(model, types, positions, CELLS["cube"])
    exact = system(positions)["forces"]
    old = system(positions, mean_correction=False)["forces"]
    assert np.abs(exact - old).max() > 1e-3


def test_virials_of_atoms_add_up(generator):
    for settings in ({}, {"charge_mode": 1, "zbl": (0.7, 1.9)}, {"charge_mode": 2}):
        model = small_model(3, **settings)
        types, positions = random_system(CELLS["triclinic"], 8, 3, generator)
        result = System(model, types, positions, CELLS["triclinic"])(positions, virials=True)
        assert np.abs(result["virials"].sum(axis=0) - result["virial"]).max() < 1e-11


def site_slopes(values, positions):
    """[i, j, b]: derivative of the value of atom i with respect to component b of atom j, by central differences."""
    n = len(positions)
    slopes = np.empty((n, n, 3))
    for j in range(n):
        for b in range(3):
            shift = np.zeros((n, 3))
            shift[j, b] = STEP
            slopes[:, j, b] = (values(positions + shift) - values(positions - shift)) / (2 * STEP)
    return slopes


def test_virials_of_atoms_are_booked_on_the_neighbour(generator):
    """W_i = sum_j r_ij (x) dU_j/dr_ji: by differences of the atomic energies in a cluster."""
    model = small_model(2)
    cell = np.eye(3) * 20.0
    types, positions = random_system(np.eye(3) * 5.0, 5, 2, generator)
    system = System(model, types, positions, cell)
    virials = system(positions, virials=True)["virials"]
    slopes = site_slopes(lambda p: system(p, forces=False)["energies"], positions)
    expected = np.zeros((5, 3, 3))
    for i, j in permutations(range(5), 2):
        expected[i] += np.outer(positions[j] - positions[i], slopes[j, i])
    assert np.abs(virials - expected).max() < 1e-6


def rotation(random):
    matrix, _ = np.linalg.qr(random.normal(size=(3, 3)))
    return matrix * np.sign(np.linalg.det(matrix))


@pytest.mark.parametrize("charge_mode", [0, 1, 2])
def test_symmetries(charge_mode, generator):
    model = small_model(3, charge_mode=charge_mode, l_max=(4, 1, 1))
    cell = CELLS["triclinic"]
    types, positions = random_system(cell, 8, 3, generator)
    base = System(model, types, positions, cell)(positions)

    def compare(other, forces, energy=base["energy"]):
        assert other["energy"] == pytest.approx(energy, abs=1e-10)
        assert np.abs(other["forces"] - forces).max() < 1e-10

    moved = positions + generator.uniform(-9, 9, size=3)
    compare(System(model, types, moved, cell)(moved), base["forces"])
    turn = rotation(generator)
    turned = positions @ turn
    compare(System(model, types, turned, cell @ turn)(turned), base["forces"] @ turn)
    order = generator.permutation(len(types))
    shuffled = np.ascontiguousarray(positions[order])
    compare(System(model, types[order], shuffled, cell)(shuffled), base["forces"][order])
    wrapped = positions + generator.integers(-2, 3, size=positions.shape) @ cell
    compare(System(model, types, wrapped, cell)(wrapped), base["forces"])
    doubled = np.vstack([positions, positions + cell[1]])
    double_cell = cell * np.array([1, 2, 1])[:, None]
    result = System(model, np.tile(types, 2), doubled, double_cell)(doubled)
    compare(result, np.tile(base["forces"], (2, 1)), 2 * base["energy"])


@pytest.mark.parametrize("charge_mode", [1, 2])
@pytest.mark.parametrize("flags", INVARIANT_FLAGS)
def test_born_effective_charges(flags, charge_mode, generator):
    """The part of d(sum q_j r_j)/dr_i that does not change with the origin, in a cluster; and the sum rule."""
    model = small_model(3, charge_mode=charge_mode, l_max=INVARIANT_FLAGS[flags])
    cell = np.eye(3) * 25.0
    types, positions = random_system(np.eye(3) * 5.0, 6, 3, generator)
    # The raw charge of an atom far away never changes, so charges minus its charge are raw charges but a constant.
    types, positions = np.append(types, 0).astype(np.int32), np.vstack([positions, [15.0] * 3])
    system = System(model, types, positions, cell)
    result = system(positions, born=True, total_charge=0.4)
    scale = model.parameters[model.sqrt_epsilon_offset]
    born = result["born_charges"] / scale
    assert np.abs(born.sum(axis=0) - 0.4 * np.eye(3)).max() < 1e-12

    def raw_charges(positions):
        charges = system(positions, forces=False)["charges"]
        return charges - charges[-1]

    slopes = site_slopes(raw_charges, positions)
    expected = np.einsum("i,ab->iab", result["charges"], np.eye(3))
    for i, j in permutations(range(len(types)), 2):
        vector = positions[j] - positions[i]
        expected[i] += 0.5 * (np.outer(vector, slopes[i, j]) + np.outer(vector, slopes[j, i]))
    assert np.abs(born - expected).max() < 1e-6


@pytest.mark.parametrize("simd", _core.available_simd())
@pytest.mark.parametrize("precision", ["double", "single"])
def test_instruction_sets_agree(simd, precision, generator):
    """All of them equal the baseline to rounding: 1e-11 in double, in single what 24 bits leave of sums of about
    100 terms of order 1 eV and 10 eV/Å."""
    model = small_model(
        4, charge_mode=2, zbl=(0.7, 1.9), l_max=(4, 1, 1), n_max=(8, 8), n_neurons=50
    )
    types, positions = random_system(CELLS["triclinic"], 14, 4, generator)
    exact = System(model, types, positions, CELLS["triclinic"], simd=_core.available_simd()[0])(
        positions
    )
    result = System(model, types, positions, CELLS["triclinic"], simd=simd, precision=precision)(
        positions
    )
    tolerance = 1e-11 if precision == "double" else 2e-4
    for name in ("energies", "forces", "charges", "virial"):
        assert np.abs(result[name] - exact[name]).max() < tolerance, name


@pytest.mark.parametrize("charge_mode", [0, 1, 2])
def test_threads_agree(charge_mode, generator):
    model = small_model(3, charge_mode=charge_mode)
    types, positions = random_system(CELLS["triclinic"], 15, 3, generator)
    one, three = (
        System(model, types, positions, CELLS["triclinic"], n_threads=n)(
            positions, virials=True, born=charge_mode > 0
        )
        for n in (1, 3)
    )
    for name, value in one.items():
        assert np.abs(three[name] - value).max() < 1e-11, name


def test_dipole(generator):
    """mu = -sum_ij d_ij^2 dU_i/dr_ij, by differences of the same network read as energies."""
    model, twin = small_model(2, kind="dipole"), small_model(2)
    twin.parameters = model.parameters
    types, positions = random_system(np.eye(3) * 5.0, 5, 2, generator)
    system = System(twin, types, positions, np.eye(3) * 25.0)
    slopes = site_slopes(lambda p: system(p, forces=False)["energies"], positions)
    expected = np.zeros(3)
    for i, j in permutations(range(5), 2):
        vector = positions[j] - positions[i]
        expected -= vector @ vector * slopes[i, j]
    assert np.abs(tensor(model, types, positions) - expected).max() < 1e-5


def test_polarizability(generator):
    """The trace is the energy of the second set of networks, the rest the virial of the first."""
    model = small_model(2, kind="polarizability")
    first, second = small_model(2), small_model(2)
    p = model.parameters
    set_size = model.bias_offset(1) - model.bias_offset(0)
    first.parameters = np.concatenate([p[:set_size], p[2 * set_size :]])
    second.parameters = np.concatenate([p[set_size : 2 * set_size], p[2 * set_size :]])
    types, positions = random_system(np.eye(3) * 5.0, 5, 2, generator)
    cell = np.eye(3) * 25.0
    expected = System(first, types, positions, cell)(positions)["virial"]
    expected = expected + System(second, types, positions, cell)(positions)["energy"] * np.eye(3)
    assert np.abs(tensor(model, types, positions) - expected).max() < 1e-12


def tensor(model, types, positions):
    cell = np.eye(3) * 25.0
    return System(model, types, positions, cell).evaluator.tensor(positions, cell)
