"""The reference and its pool: labels keep their numbers, whoever else writes there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from qnep.dft import Label, Pool, PoolError, backend_settings
from qnep.learn import State, make_learner, read_configuration
from qnep.learn.reference import Reference

BACKEND = "ase.calculators.emt:EMT"


def frame(number: int) -> Atoms:
    atoms = bulk("Al", cubic=True, a=4.05)
    atoms.rattle(0.02, seed=number)
    return atoms


def open_reference(path: Path, kpts: tuple[int, int, int]) -> Reference:
    return Reference(path, BACKEND, ["Al"], backend_settings(BACKEND, kpts=kpts))


def energies(frames: dict[int, Atoms]) -> dict[int, float]:
    return {number: atoms.get_potential_energy() for number, atoms in frames.items()}


def test_two_grids_in_one_pool(tmp_path, caplog):
    """Each reference knows its own labels, in memory as on disk, by numbers that the other does not change."""
    path = tmp_path / "pool.db"
    known = {}
    for kpts, numbers in (((1, 1, 1), (1, 2)), ((2, 2, 2), (2, 1)), ((1, 1, 1), (3,))):
        reference = open_reference(path, kpts)
        assert all(reference.label(frame(k), "test", "test").is_new for k in numbers)
        known[kpts] = energies(reference.frames)
        reference.close()
    assert [list(frames) for frames in known.values()] == [[1, 2, 5], [3, 4]]
    for kpts, expected in known.items():
        caplog.clear()
        reference = open_reference(path, kpts)
        assert energies(reference.frames) == expected
        assert f"{5 - len(expected)} of 5 labels are left out" in caplog.text
        again = reference.label(frame(2), "test", "test")
        assert not again.is_new and again.number == {1: 2, 2: 3}[kpts[0]]
        reference.close()


def test_labels_in_memory_are_those_on_disk(tmp_path):
    """A run that goes on must train on what a resumed one would train on."""
    first = open_reference(tmp_path / "pool.db", (1, 1, 1))
    made = first.label(frame(1), "test", "one").frame
    first.close()
    again = open_reference(tmp_path / "pool.db", (1, 1, 1))
    (read,) = again.frames.values()
    again.close()
    assert made.info.keys() == read.info.keys()
    for name in ("energy", "forces", "stress"):
        np.testing.assert_array_equal(made.calc.results[name], read.calc.results[name])


def test_a_resumed_run_has_its_own_labels_where_others_added_denser_ones(finished, tmp_path):
    shutil.copytree(finished("haml").parent, tmp_path / "copy")
    path = tmp_path / "copy" / "learn.toml"
    file = tmp_path / "copy" / "run" / "pool.db"
    training = State.load(file.parent).training
    with Pool(file) as pool:
        before = dict(pool.numbered_frames())
        for atoms in list(before.values())[:4]:
            label = Label(1.0, np.zeros((4, 3)), None, atoms.info["level"], "2x2x2")
            assert pool.add_label(atoms, label)
    path.write_text(path.read_text().replace("n_steps = 16", "n_steps = 20"))
    learner = make_learner(read_configuration(path), resume=True)
    assert energies(learner.reference.frames) == energies(before)
    assert learner.state.training == training
    assert learner.run().is_done
    trained = {atoms.get_potential_energy() for atoms in learner._training_frames()}
    assert 1.0 not in trained


def test_a_pool_that_lacks_labels_of_the_run(finished, tmp_path):
    shutil.copytree(finished("haml").parent, tmp_path / "copy")
    (tmp_path / "copy" / "run" / "pool.db").unlink()
    with pytest.raises(PoolError, match=r"has no label number 1: is it another pool\?"):
        make_learner(read_configuration(tmp_path / "copy" / "learn.toml"), resume=True)


def test_a_state_with_places_is_shown_but_not_resumed(finished, tmp_path):
    shutil.copytree(finished("haml").parent, tmp_path / "copy")
    file = tmp_path / "copy" / "run" / "state.json"
    file.write_text(file.read_text().replace('"format": 2', '"format": 1'))
    assert State.load(file.parent).training
    with pytest.raises(ValueError, match=r"begun by another version of qnep: .* with this pool"):
        make_learner(read_configuration(tmp_path / "copy" / "learn.toml"), resume=True)


def test_a_loop_whose_labels_have_no_stress(make_configuration, caplog):
    """As with GPAW at another cutoff than its slopes are for: trained on energies and forces alone."""
    settings = "settings = {cutoff_eV = 340.0, pulay = {cutoff_eV = 500.0}}"
    path = make_configuration("haml", reference=settings, options="n_steps = 5")
    learner = make_learner(read_configuration(path), resume=False)
    assert learner.run().is_done
    assert caplog.text.count("labels: no stress") == 1
    frames = learner.reference.frames.values()
    assert len(frames) >= 6 and not any("stress" in atoms.calc.results for atoms in frames)
