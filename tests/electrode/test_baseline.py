"""The energy that is taken off the labels is the one that the electrodes put back."""

from __future__ import annotations

import numpy as np
import pytest
from electrode_cells import two_electrodes

from qnep.electrode import EquilibratedCharges


@pytest.mark.parametrize("charge", [0.0, 0.7])
def test_gradients_and_total_charge(charge):
    atoms = two_electrodes()
    atoms.info["charge"] = charge
    atoms.calc = EquilibratedCharges()
    forces, stress = atoms.get_forces(), atoms.get_stress()
    assert atoms.get_charges().sum() == pytest.approx(charge, abs=1e-9)
    energies, strained = [], []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.calc = atoms.calc
        moved.positions[34, 2] += sign * 1e-4
        energies.append(moved.get_potential_energy())
        moved = atoms.copy()
        moved.calc = atoms.calc
        moved.set_cell(atoms.cell.array * [1 + sign * 1e-5, 1, 1], scale_atoms=True)
        strained.append(moved.get_potential_energy())
    assert forces[34, 2] == pytest.approx(-(energies[0] - energies[1]) / 2e-4, abs=1e-6)
    expected = (strained[0] - strained[1]) / 2e-5 / atoms.get_volume()
    assert stress[0] == pytest.approx(expected, abs=1e-7)


def test_fluorine_takes_charge_from_sodium():
    atoms = two_electrodes()
    atoms.calc = EquilibratedCharges()
    charges = atoms.get_charges()
    assert np.all(charges[atoms.symbols == "F"] < -0.1)
    assert charges[atoms.symbols == "Na"].mean() > 0


def test_open_boundaries_are_refused():
    atoms = two_electrodes()
    atoms.pbc = [True, True, False]
    atoms.calc = EquilibratedCharges()
    with pytest.raises(ValueError, match="periodic in all directions"):
        atoms.get_potential_energy()
