"""A charged cell: the charge of the reference's settings reaches labels, training and models."""

from __future__ import annotations

import pytest
from ase.io import read, write

from qnep import random_model
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
    assert all(frame.info["charge"] == 1.0 for frame in again.reference.frames.values())
    again.close()


@pytest.mark.parametrize("where", ["structure", "structures", "models"])
def test_a_structure_that_charges_cannot_have_is_refused_before_a_label(
    make_configuration, tmp_path, capsys, where
):
    """Of [model] or of a model that is given; without charges the same slab is accepted."""
    path = make_configuration("haml")
    slab = read(path.parent / "start.extxyz")
    slab.center(vacuum=4.0, axis=2)
    slab.pbc = (True, True, False)
    name = "slab" if where == "structures" else "start"
    write(path.parent / f"{name}.extxyz", slab)
    plain = path.read_text()
    if where == "structures":
        plain = plain.replace("n_perturbed = 5", 'n_perturbed = 5\nstructures = ["slab.extxyz"]')
    charged = plain.replace('elements = ["Al"]', 'elements = ["Al"]\ncharge_mode = 2')
    if where == "models":
        model = tmp_path / "model.txt"
        random_model("Al", charge_mode=2, seed=1).write(str(model))
        charged = plain.replace("n_perturbed = 5", f'models = ["{model}"]')
        charged = charged[: charged.index("elements = ")] + charged[charged.index("[training]") :]
    path.write_text(charged)
    assert main(["learn", str(path)]) == 2
    assert "Al4 says pbc = [True, True, False]" in capsys.readouterr().err
    assert not (path.parent / "run" / "pool.db").exists()
    path.write_text(plain)
    make_learner(read_configuration(path), resume=False).close()


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
