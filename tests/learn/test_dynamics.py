"""Dynamics with two drivers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from qnep.learn.dynamics import ML, REFERENCE, Dynamics, Snapshot, TurnTaker


def make_dynamics(seed: int = 5) -> Dynamics:
    turns = TurnTaker(EMT(), LennardJones(sigma=2.6, epsilon=0.2, rc=3.5))
    atoms = bulk("Al", cubic=True, a=4.05)
    return Dynamics(atoms, turns, 300.0, 2.0, 0.02, seed)


def test_a_snapshot_goes_on_to_the_same_numbers_after_json():
    """To rounding: the calculators' neighbour lists remember where they were built, and sum in that order."""
    whole, broken = make_dynamics(), make_dynamics(seed=6)
    for _ in range(3):
        whole.advance(ML)
    text = json.dumps(whole.snapshot().as_dict())
    broken.restore(Snapshot.from_dict(json.loads(text)))
    for driver in (ML, REFERENCE, ML):
        whole.advance(driver)
        broken.advance(driver)
    np.testing.assert_allclose(whole.atoms.positions, broken.atoms.positions, atol=1e-12)
    np.testing.assert_allclose(whole.atoms.get_momenta(), broken.atoms.get_momenta(), atol=1e-12)
    assert broken.step == 6


def test_the_first_half_of_a_step_is_driven_by_whoever_drove_before():
    """One step after a label must differ from a step of the models alone, by the reference's half kick."""
    alone, labelled = make_dynamics(), make_dynamics()
    labelled.calculator.driver = REFERENCE
    reference_forces = labelled.atoms.get_forces()
    model_forces = alone.atoms.get_forces()
    assert np.abs(reference_forces - model_forces).max() < 1e-9  # a perfect crystal: both zero
    for dynamics in (alone, labelled):
        dynamics.atoms.positions[0] += [0.3, 0.2, 0.0]
    kick = labelled.atoms.get_forces() - alone.atoms.get_forces()
    alone.advance(ML)
    labelled.advance(ML)
    assert labelled.calculator.driver == ML
    moved = labelled.atoms.positions - alone.atoms.positions
    # Both moves are dt² F / 2m up to the friction's share of dt / 4, 1 %.
    expected = 0.5 * kick / labelled.atoms.get_masses()[:, None] * labelled._langevin.dt**2
    np.testing.assert_allclose(moved, expected, rtol=0.03, atol=1e-9)


def test_going_back_brings_new_noise():
    dynamics = make_dynamics()
    start = dynamics.snapshot()
    dynamics.advance(ML)
    first = dynamics.atoms.positions.copy()
    dynamics.go_back(start)
    assert dynamics.step == 0
    np.testing.assert_array_equal(dynamics.atoms.positions, start.positions)
    dynamics.advance(ML)
    assert np.abs(dynamics.atoms.positions - first).max() > 1e-4


def test_models_cannot_drive_before_there_are_any():
    turns = TurnTaker(EMT())
    assert turns.driver == REFERENCE
    with pytest.raises(ValueError, match="no machine-learned calculator yet"):
        turns.driver = ML


@pytest.mark.parametrize("numbers", [(0.0, 1.0, 0.1), (300.0, -1.0, 0.1), (300.0, 1.0, np.nan)])
def test_numbers_that_are_not_positive(numbers):
    with pytest.raises(ValueError, match="must be positive"):
        Dynamics(bulk("Al", cubic=True), TurnTaker(EMT()), *numbers, seed=0)
