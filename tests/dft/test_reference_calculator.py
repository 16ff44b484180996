"""The calculator that labels, and the label it gives."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from qnep.dft import backend_settings, get_backend
from qnep.dft.label import compute_label
from qnep.dft.reference_calculator import chosen_grid


class Frozen(FixAtoms):
    """Leaves no force and no stress, and adds to the energy: all that a constraint of ASE may do."""

    def adjust_stress(self, atoms, stress):
        stress[:] = 0.0

    def adjust_potential_energy(self, atoms):
        return 1.0


@pytest.fixture
def copper():
    atoms = bulk("Cu", a=3.5, cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.fixture
def expected(copper):
    """Energy, forces and stress of EMT for the free structure."""
    copper = copper.copy()
    copper.calc = EMT()
    return copper.get_potential_energy(), copper.get_forces(), copper.get_stress()


def test_a_molecule_that_is_not_periodic_has_one_k_point(water):
    """GPAW refuses more; as a crystal the box of 7 Å has three along each vector."""
    settings = backend_settings("gpaw")
    assert chosen_grid(water, settings) == (3, 3, 3)
    water.pbc = False
    assert chosen_grid(water, settings) == (1, 1, 1)


def test_constraints_do_not_change_a_label(copper, expected):
    copper.set_constraint(Frozen([0, 1, 2, 3]))
    label = compute_label(copper, get_backend("ase.calculators.emt:EMT"))
    for value, reference in zip((label.energy, label.forces, label.stress), expected):
        np.testing.assert_allclose(value, reference, rtol=1e-10, atol=1e-12)
    assert len(copper.constraints) == 1


def test_constraints_act_once_on_the_atoms_of_the_calculator(copper, expected):
    copper.set_constraint(Frozen([0]))
    copper.calc = get_backend("ase.calculators.emt:EMT")
    energy, forces, stress = expected
    np.testing.assert_allclose(copper.get_forces(apply_constraint=False), forces, atol=1e-12)
    np.testing.assert_allclose(copper.get_stress(apply_constraint=False), stress, atol=1e-12)
    np.testing.assert_array_equal(copper.get_forces()[0], 0.0)
    assert copper.get_potential_energy() == pytest.approx(energy + 1.0)
