"""Electrodes for ASE: gradients, thermodynamic relations, symmetries and messages."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.constraints import FixAtoms, Hookean
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from electrode_cells import charged_model, equilibrated, induced, membership, two_electrodes

from qnep import QNEP
from qnep.electrode import (
    ConstantPotential,
    CoordinationMembership,
    Electrode,
    ElementParameters,
    FixedMembership,
)
from qnep.electrode.membership import smoothstep

SCHEMES = {"induced": induced, "equilibrated": equilibrated}
ADATOM, DISSOLVED = 32, 33
HELD_CHARGES = {
    "induced": [Electrode("lower", charge=-0.2), Electrode("upper", charge=0.2)],
    "equilibrated": [Electrode("lower", charge=0.3), Electrode("upper", potential_V=2.0)],
}


def slope(atoms, change, step):
    """Central difference of the energy along a displacement [n_atoms, 3]."""
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions += sign * step * change
        moved.calc = atoms.calc
        energies.append(moved.get_potential_energy())
    return (energies[0] - energies[1]) / (2 * step)


@pytest.mark.parametrize("held", ["potentials", "charges"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_forces_are_the_gradient_through_the_switch(scheme, held):
    """To 1e-6 eV/Å, with an atom half in the metal and one between the two electrodes."""
    atoms = two_electrodes()
    switch = membership(atoms)
    fractions = atoms.get_scaled_positions()[:, 2]
    weights = switch.weights(atoms, fractions).values
    assert 0.05 < weights[0, ADATOM] < 0.95  # else this tests nothing
    sides = switch._sides(atoms, fractions)[0]
    assert 0.05 < sides[0, DISSOLVED] < 0.95

    atoms.calc = SCHEMES[scheme](atoms, HELD_CHARGES[scheme] if held == "charges" else None)
    forces = atoms.get_forces()
    for i, a in [(ADATOM, 0), (ADATOM, 2), (DISSOLVED, 2), (12, 2), (3, 1), (34, 0)]:
        change = np.zeros_like(atoms.positions)
        change[i, a] = 1.0
        assert forces[i, a] == pytest.approx(-slope(atoms, change, 1e-4), abs=1e-6)


def test_forces_with_several_metal_atoms_at_the_plane():
    """A plane inside the upper slab: many atoms divided between electrodes by their height."""
    atoms = two_electrodes()
    plane = (atoms.positions[25, 2] + 0.3) / atoms.cell[2, 2]
    switch = membership(atoms, planes=[plane], plane_width=0.2)
    for make in SCHEMES.values():
        atoms.calc = make(atoms, membership=switch)
        atoms.calc._check_gaps = lambda *_: None  # the division is meant
        forces = atoms.get_forces()
        for i, a in [(25, 2), (21, 2), (29, 0)]:
            change = np.zeros_like(atoms.positions)
            change[i, a] = 1.0
            assert forces[i, a] == pytest.approx(-slope(atoms, change, 1e-4), abs=2e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_stress_is_the_derivative_with_the_strain(scheme):
    atoms = two_electrodes()
    atoms.calc = SCHEMES[scheme](atoms)
    stress = atoms.get_stress(voigt=False)
    for a, b in [(0, 0), (1, 1), (0, 1), (2, 2), (0, 2)]:
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * 1e-5
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ strain.T, scale_atoms=True)
            moved.calc = atoms.calc
            energies.append(moved.get_potential_energy())
        expected = (energies[0] - energies[1]) / 2e-5 / atoms.get_volume()
        # eV/Å³; 2e-8 times the volume is the 1e-4 eV that differences of 1e-9 eV over 1e-5 resolve.
        assert stress[a, b] == pytest.approx(expected, abs=3e-8)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_charge_is_the_derivative_with_the_potential(scheme):
    """dOmega/dpotential = -charge of the electrode."""
    atoms = two_electrodes()
    atoms.calc = SCHEMES[scheme](atoms)
    atoms.get_potential_energy()
    charge = atoms.calc.results["electrode_charges"][1]
    potential = atoms.calc.electrodes[1].potential_V
    energies = []
    for change in (0.01, -0.01):
        atoms.calc.set_potential("upper", potential + change)
        energies.append(atoms.get_potential_energy())
    assert (energies[0] - energies[1]) / 0.02 == pytest.approx(-charge, abs=1e-6)


def test_holding_the_charge_gives_back_the_potential():
    """The charge that 2.5 V induces, held, needs 2.5 V; energies differ by charge times potential."""
    atoms = two_electrodes()
    atoms.calc = induced(atoms)
    at_potential = atoms.get_potential_energy()
    charges = atoms.calc.results["electrode_charges"]
    assert charges.sum() == pytest.approx(0.0, abs=1e-8)
    atoms.calc.set_charge("lower", charges[0])
    atoms.calc.set_charge("upper", charges[1])
    at_charge = atoms.get_potential_energy()
    potentials = atoms.calc.results["electrode_potentials"]
    assert potentials[1] - potentials[0] == pytest.approx(2.5, abs=1e-6)
    assert at_charge - at_potential == pytest.approx(charges @ [-1.0, 1.5], abs=1e-6)


@pytest.mark.parametrize("potential", [0.0, 3.0])
def test_equal_potentials_leave_the_model_alone(potential):
    """Short-circuited electrodes are what the model was trained on: same energy, forces and stress."""
    atoms = two_electrodes()
    atoms.calc = induced(
        atoms, [Electrode(name, potential_V=potential) for name in ("lower", "upper")]
    )
    bare = atoms.copy()
    bare.calc = QNEP(charged_model(), kspace="ewald")
    assert atoms.get_potential_energy() == pytest.approx(bare.get_potential_energy(), abs=1e-8)
    np.testing.assert_allclose(atoms.get_forces(), bare.get_forces(), rtol=0, atol=1e-7)
    np.testing.assert_allclose(atoms.get_stress(), bare.get_stress(), rtol=0, atol=1e-9)


def test_constant_charge_and_equal_potentials_move_alike():
    """One electrode held at zero charge and one at any potential give one trajectory."""
    positions = []
    for electrode in (Electrode("both", charge=0.0), Electrode("both", potential_V=2.0)):
        atoms = two_electrodes()
        atoms.calc = induced(atoms, [electrode], membership=membership(atoms, planes=[]))
        thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(4))
        VelocityVerlet(atoms, 0.5 * units.fs).run(10)
        positions.append(atoms.positions)
    np.testing.assert_allclose(positions[0], positions[1], rtol=0, atol=1e-8)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_wrapping_and_axes(scheme):
    """Atoms wrapped through the vacuum, and the same cell with its axes permuted."""
    atoms = two_electrodes()
    atoms.calc = SCHEMES[scheme](atoms)
    forces = atoms.get_forces()
    wrapped = atoms.copy()
    wrapped.positions[[0, 5, 20]] -= wrapped.cell[2]
    wrapped.positions[[1, 33]] += 2 * wrapped.cell[0]
    wrapped.calc = SCHEMES[scheme](atoms)
    np.testing.assert_allclose(wrapped.get_forces(), forces, rtol=0, atol=1e-7)

    turned = atoms.copy()
    turned.positions = np.roll(atoms.positions, 1, axis=1)
    turned.cell = np.roll(atoms.cell.array, (1, 1), axis=(0, 1))
    turned.calc = SCHEMES[scheme](atoms, slab_axis=0, membership=membership(atoms, axis=0))
    np.testing.assert_allclose(np.roll(turned.get_forces(), -1, axis=1), forces, rtol=0, atol=1e-7)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mesh_and_plain_sum_agree(scheme):
    atoms = two_electrodes()
    results = []
    for kspace in ("ewald", "pppm"):
        atoms.calc = SCHEMES[scheme](atoms, kspace=kspace, accuracy=1e-6)
        results.append((atoms.get_forces(), atoms.calc.results["electrode_charges"]))
    # The mesh's own error, at charges up to 1 e.
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=0, atol=1e-5)


def metal_in_motion(scheme):
    """Atoms at 300 K with the adatom shot off the lower electrode."""
    atoms = two_electrodes()
    del atoms[[atom.index for atom in atoms if atom.symbol == "F"]]
    atoms.calc = SCHEMES[scheme](atoms, tolerance=1e-7)
    thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(4))
    momenta = atoms.get_momenta()
    momenta[ADATOM] = atoms.get_masses()[ADATOM] * np.array([0, 0, 0.25])
    atoms.set_momenta(momenta)
    return atoms


@pytest.mark.parametrize("scheme", SCHEMES)
def test_energy_is_conserved_while_an_atom_leaves_the_electrode(scheme):
    atoms = metal_in_motion(scheme)
    switch = membership(two_electrodes())
    energies, weights = [], []

    def observe():
        energies.append(atoms.get_total_energy() / len(atoms))
        fractions = atoms.get_scaled_positions()[:, 2]
        weights.append(switch.weights(atoms, fractions).values[0, ADATOM])

    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    dynamics.attach(observe)
    dynamics.run(160)
    assert weights[0] > 0.3
    assert weights[-1] == 0.0
    # 1.5e-7 eV/atom is the integrator's own error at this step: it falls with the square of the step.
    assert np.ptp(energies) < 1e-6


def test_a_sudden_switch_makes_the_energy_jump():
    """What the smooth one is for: the adatom lifted through a step of its count, 0.01 Å at a time."""
    jumps = {}
    for name, counts in {"smooth": (3.0, 8.0), "sudden": (4.499, 4.501)}.items():
        atoms = two_electrodes()
        atoms.calc = induced(atoms, membership=membership(atoms, counts=counts))
        energies = []
        for _ in range(300):
            energies.append(atoms.get_potential_energy())
            atoms.positions[ADATOM, 2] += 0.01
        jumps[name] = np.abs(np.diff(energies, 2)).max()
    assert jumps["sudden"] > 20 * jumps["smooth"]


def test_smoothstep_has_its_slope():
    x = np.linspace(-0.5, 3.5, 41)
    value, slope_ = smoothstep(x, 0.5, 2.5)
    assert value[0] == 0.0
    assert value[-1] == 1.0
    differences = (smoothstep(x + 1e-6, 0.5, 2.5)[0] - smoothstep(x - 1e-6, 0.5, 2.5)[0]) / 2e-6
    np.testing.assert_allclose(slope_, differences, rtol=0, atol=1e-9)


def test_fixed_groups():
    atoms = two_electrodes()
    groups = FixedMembership([range(16), range(16, 32)])
    atoms.calc = induced(atoms, membership=groups)
    forces = atoms.get_forces()
    change = np.zeros_like(atoms.positions)
    change[14, 2] = 1.0
    assert forces[14, 2] == pytest.approx(-slope(atoms, change, 1e-4), abs=1e-6)
    induced_charges = atoms.calc.results["electrode_charges"]
    assert (
        induced_charges[1] > 0 > induced_charges[0]
    )  # the positive electrode takes up positive charge


@pytest.mark.parametrize("scheme", SCHEMES)
def test_vacuum_in_the_middle_of_the_cell(scheme):
    """The gap's centre drifts across the middle of the cell: the same electrodes on both sides of it."""
    atoms = two_electrodes()
    plane = membership(atoms).planes[0]
    fractions = np.sort(atoms.get_scaled_positions()[:, 2])
    centre = 0.5 * (fractions[-1] + 1.0 + fractions[0])
    energies = []
    for shift in (0.5 - centre - 1e-3, 0.5 - centre + 1e-3):
        moved = atoms.copy()
        moved.positions[:, 2] += shift * atoms.cell[2, 2]
        switch = membership(atoms, planes=[plane + shift])
        moved.calc = SCHEMES[scheme](moved, membership=switch)
        energies.append(moved.get_potential_energy())
    assert energies[1] == pytest.approx(energies[0], abs=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_constraints_act_once(scheme):
    atoms = two_electrodes()
    atoms.calc = SCHEMES[scheme](atoms)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    spring = Hookean(34, 35, rt=0.5, k=1.0)
    atoms.set_constraint([FixAtoms([3]), spring])
    atoms.calc.reset()
    pulled = spring.adjust_potential_energy(atoms)
    assert pulled > 1.0
    assert atoms.get_potential_energy() == pytest.approx(energy + pulled, abs=1e-8)
    np.testing.assert_allclose(atoms.get_forces(apply_constraint=False), forces, atol=1e-8)


def test_charges_that_are_changed_one_after_the_other():
    atoms = two_electrodes()
    held = [Electrode("lower", charge=-0.1), Electrode("upper", charge=0.1)]
    atoms.calc = induced(atoms, held)
    atoms.calc.set_charge("upper", 0.3)
    with pytest.raises(ValueError, match="must sum to zero"):
        atoms.get_potential_energy()
    atoms.calc.set_charge("lower", -0.3)
    atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.calc.results["electrode_charges"], [-0.3, 0.3], atol=1e-8)


def test_electrodes_that_touch_through_the_boundary():
    atoms = two_electrodes()
    groups = FixedMembership([[*range(16), 32], [*range(16, 32), 33]])
    atoms.positions[32] = atoms.positions[33] = [0.2, 3.0, atoms.positions[33, 2]]
    atoms.positions[33, 0] = atoms.cell[0, 0] - 1.8
    atoms.calc = induced(atoms, membership=groups)
    with pytest.raises(ValueError, match=r"lower and upper touch: 2\.00 Å"):
        atoms.get_potential_energy()


def fixed(*groups):
    return FixedMembership(groups)


LOWER_UPPER = [Electrode("lower", potential_V=-1.0), Electrode("upper", potential_V=1.5)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"membership": fixed(range(16), [])}, "no atom belongs to electrode upper"),
        ({"membership": fixed(range(16), range(8, 32))}, "more than one electrode"),
        ({"membership": fixed(range(16), range(900, 950))}, r"must be in 0 ... 35, got 900"),
        ({"membership": fixed(range(8), range(8, 32))}, "electrodes lower and upper touch"),
        ({"membership": fixed(range(16))}, "among 1 electrodes, given are 2"),
        ({"slab_axis": 0}, "needs at least 5 Å of vacuum along cell vector 0"),
        ({"slab_axis": None}, "meet through the boundary"),
        ({"slab_axis": 5}, "slab_axis must be 0, 1, 2 or None"),
        ({"total_charge": 1.0}, "must be neutral"),
        ({"electrodes": [LOWER_UPPER[0], LOWER_UPPER[0]]}, "different names"),
        (
            {"electrodes": [Electrode("lower", charge=0.1), Electrode("upper", charge=0.2)]},
            "must sum to zero",
        ),
    ],
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_wrong_input(scheme, settings, message):
    atoms = two_electrodes()
    with pytest.raises(ValueError, match=message):
        atoms.calc = SCHEMES[scheme](atoms, **settings)
        atoms.get_potential_energy()


def test_wrong_calculators_and_parameters():
    atoms = two_electrodes()
    with pytest.raises(ValueError, match="either potential_V or charge"):
        Electrode("lower")
    with pytest.raises(ValueError, match="finite value"):
        Electrode("lower", potential_V=float("nan"))
    with pytest.raises(ValueError, match="hardness must be positive, got 0"):
        ElementParameters(1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="width must be positive, got -1"):
        ElementParameters(1.0, 1.0, -1.0)
    with pytest.raises(ValueError, match="counts must be positive and ascending"):
        CoordinationMembership(["Na"], counts=(8, 5))
    with pytest.raises(ValueError, match="planes must ascend"):
        CoordinationMembership(["Na"], planes=[0.5, 0.52])
    with pytest.raises(ValueError, match="need a QNEP calculator whose model has charges"):
        ConstantPotential(equilibrated(atoms)._scheme.calculator, LOWER_UPPER, membership(atoms))
    with pytest.raises(ValueError, match="scheme must be one of induced, equilibrated"):
        ConstantPotential(QNEP(charged_model()), LOWER_UPPER, membership(atoms), scheme="both")
    with pytest.raises(ValueError, match="there is no electrode middle"):
        induced(atoms).set_potential("middle", 1.0)
    atoms.symbols[0] = "Si"
    with pytest.raises(ValueError, match="no charge parameters for Si"):
        atoms.calc = equilibrated(two_electrodes())
        atoms.get_potential_energy()


def test_senseless_charges_are_reported(caplog):
    atoms = two_electrodes()
    atoms.calc = induced(atoms)
    atoms.calc.set_potential("upper", 500.0)
    atoms.get_potential_energy()
    assert "drive the model beyond its sense" in caplog.text
