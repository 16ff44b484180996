"""A charged cell: the charge of the reference's settings reaches labels, training and models."""

from __future__ import annotations

import pytest
from ase.io import read, write

from qnep.cli import main
from qnep.learn import make_learner, read_configuration

CHARGED = "settings = {total_charge = 1.0}"


@pytest.mark.parametrize("policy", ["aofl", "haml"])
def test_the_charge_reaches_training_and_models(make_configuration, policy):
    """EMT ignores it, models with charges do not: their charges sum to it, alone and as a committee."""
    path = make_configuration(policy, reference=CHARGED, options="n_steps = 5")
    text = path.read_text()
    path.write_text(text.replace('elements = ["Al"]', 'elements = ["Al"]\ncharge_mode = 2'))
    learner = make_learner(read_configuration(path), resume=False)
    state = learner.run()
    assert learner.look().results["charges"].sum() == pytest.approx(1.0, abs=1e-6)
    trained = read(path.parent / "run" / "models" / "0001" / "new.xyz", ":")
    assert len(trained) >= 6 and all(frame.info["charge"] == 1.0 for frame in trained)
    again = make_learner(read_configuration(path), resume=True)
    assert len(again.reference.frames) >= len(state.training)
    assert all(frame.info["charge"] == 1.0 for frame in again.reference.frames)
    again.close()


@pytest.mark.parametrize(("reference", "expected"), [("", 2), (CHARGED, None)])
def test_a_structure_of_another_charge_is_refused(make_configuration, capsys, reference, expected):
    path = make_configuration("haml", reference=reference)
    atoms = read(path.parent / "start.extxyz")
    atoms.info["charge"] = 1
    write(path.parent / "start.extxyz", atoms)
    if expected is None:
        make_learner(read_configuration(path), resume=False).close()
        return
    assert main(["learn", str(path)]) == expected
    error = capsys.readouterr().err
    assert "Al4 says charge=1, settings.total_charge of [reference] is 0" in error
