"""The first training set and the folder of a run before its first model: refused frames, velocities, wrong values."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write

from qnep import random_model
from qnep._optional import MissingExtra
from qnep.cli import main
from qnep.learn import (
    ConfigurationError,
    ReferenceFailed,
    State,
    StateError,
    make_learner,
    read_configuration,
)
from qnep.learn.learner import Start, perturbed
from qnep.learn.state import read_decisions

START_VOLUME = 4.05**3  # Å³
SHORT = {"options": "n_steps = 6\nwindow = 4\nkeep_every = 2"}


@pytest.fixture(autouse=True)
def _moody_references(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def picky(path: Path, smallest_volume: float) -> Path:
    """Let the reference refuse cells below a volume, Å³."""
    text = path.read_text().replace("ase.calculators.emt:EMT", "moody:picky_emt")
    settings = f"[reference]\nsettings = {{options = {{smallest_volume = {smallest_volume}}}}}"
    path.write_text(text.replace("[reference]", settings))
    return path


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def decisions(path: Path) -> list[dict]:
    return list(read_decisions(path.parent / "run"))


def volumes(path: Path) -> np.ndarray:
    """Volumes of the frames of the first training set, the unperturbed one first."""
    start = Start(n_perturbed=5, amplitude=0.05)
    atoms = read(path.parent / "start.extxyz")
    return np.array([frame.get_volume() for frame in perturbed(start, atoms, seed=3)])


def test_a_refused_copy_costs_one_frame_also_after_a_kill(make_configuration, capsys):
    whole, killed = (
        picky(make_configuration("haml", name, **SHORT), START_VOLUME - 0.01)
        for name in ("whole", "killed")
    )
    n_refused = int((volumes(whole) < START_VOLUME - 0.01).sum())
    assert 0 < n_refused < 5
    assert main(["learn", str(whole)]) == 0
    made = decisions(whole)
    refused = [d for d in made if "the reference refuses frame" in d["why"]]
    assert len(refused) == n_refused and {d["action"] for d in refused} == {"drop"}
    assert all("too small a cell" in d["why"] for d in refused)
    n_labels = [decision["n_labels"] for decision in made if decision["action"] == "start"]
    assert n_labels == [6 - n_refused]
    capsys.readouterr()
    assert main(["learn", str(whole), "--explain"]) == 0
    assert "drop - the reference refuses frame" in capsys.readouterr().out

    _kill_at_the_first_decision(killed)
    assert len(decisions(killed)) < len(made) and not State.load(killed.parent / "run").models
    assert main(["learn", str(killed), "--resume"]) == 0
    for one, other in zip(decisions(killed), made, strict=True):
        assert (one["step"], one["action"], one["why"]) == (
            other["step"],
            other["action"],
            other["why"],
        )


def _kill_at_the_first_decision(path: Path) -> None:
    command = [sys.executable, "-m", "qnep.cli", "learn", str(path)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    file = path.parent / "run" / "decisions.jsonl"
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while process.poll() is None and not file.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert file.exists()


def test_a_start_whose_own_structure_is_refused_stops(make_configuration):
    path = picky(make_configuration("haml"), START_VOLUME + 0.01)
    with pytest.raises(ReferenceFailed, match=r"^RuntimeError: too small a cell"):
        make_learner(read_configuration(path), resume=False).run()
    assert not (path.parent / "run" / "decisions.jsonl").exists()


def test_a_start_all_of_whose_copies_are_refused_stops(make_configuration):
    path = picky(make_configuration("haml"), START_VOLUME - 1e-3)
    replace_in(path, "n_perturbed = 5", "n_perturbed = 2")
    seed = _seed_of_small_copies(read(path.parent / "start.extxyz"))
    replace_in(path, "seed = 3", f"seed = {seed}")
    with pytest.raises(ReferenceFailed, match=r"all 2 perturbed frames .* too small a cell"):
        make_learner(read_configuration(path), resume=False).run()


def _seed_of_small_copies(atoms) -> int:
    """Return a seed with which both copies are smaller than the structure."""
    start = Start(n_perturbed=2, amplitude=0.05)
    for seed in range(50):
        first, *copies = (frame.get_volume() for frame in perturbed(start, atoms, seed))
        if max(copies) < first - 1e-3:
            return seed
    raise AssertionError("no such seed")


@pytest.mark.parametrize("key", ["structure", "structures", "models"])
def test_another_content_of_a_file_is_another_configuration(make_configuration, key):
    path = make_configuration("haml")
    (path.parent / "start.extxyz").rename(path.parent / "other.extxyz")
    (path.parent / "start.extxyz").write_text((path.parent / "other.extxyz").read_text())
    plain = read_configuration(path).digest
    if key != "structure":
        replace_in(path, "n_perturbed = 5", f'n_perturbed = 5\n{key} = ["other.extxyz"]')
    file = path.parent / ("start.extxyz" if key == "structure" else "other.extxyz")
    before = read_configuration(path).digest
    assert (before == plain) == (key == "structure")
    file.write_text(file.read_text().replace("4.05", "4.06", 1))
    assert read_configuration(path).digest != before


# --- a run that has no model yet ----------------------------------------------------------------------------------


def test_a_failed_beginning_can_be_begun_anew_with_another_configuration(make_configuration):
    path = picky(make_configuration("haml", **SHORT), START_VOLUME + 1e3)
    with pytest.raises(ReferenceFailed):
        make_learner(read_configuration(path), resume=False).run()
    folder = path.parent / "run"
    (folder / "decisions.jsonl").write_text('{"step": 0}\n')
    leftover = folder / "models" / "0001" / "member0" / "checkpoint.npz"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("of a training with other settings")
    replace_in(path, "amplitude = 0.05", "amplitude = 0.04")
    replace_in(path, f"smallest_volume = {START_VOLUME + 1e3}", "smallest_volume = 1.0")
    state = make_learner(read_configuration(path), resume=False).run()
    assert state.is_done and decisions(path)[0]["action"] == "start"


def test_failures_of_the_start_are_tried_again_by_resume_and_by_a_new_beginning(make_configuration):
    """The pool remembers what failed; a frame that failed once must not be refused for ever."""
    path = make_configuration(
        "haml", reference='settings = {options = {refuse = "refuse"}}', **SHORT
    )
    refuse = path.parent / "refuse"
    text = path.read_text().replace("ase.calculators.emt:EMT", "moody:moody_emt")
    path.write_text(text.replace('"refuse"', f'"{refuse}"'))
    for resume in (False, False, True):
        refuse.touch()
        with pytest.raises(ReferenceFailed, match="not in the mood"):
            make_learner(read_configuration(path), resume).run()
    refuse.unlink()
    assert make_learner(read_configuration(path), resume=True).run().is_done
    assert [d["action"] for d in decisions(path)][:2] == ["start", "train"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("timestep_fs = 2.0", "timestep_fs = 0.0", "timestep_fs of the dynamics must be positive"),
        ("friction = 0.02", "friction = 0.0", "friction of the dynamics must be positive"),
        ("check_interval = 5", "check_interval = 0", "check_interval and write_interval must be"),
        ("seed = 3", "seed = -1", "seed must be a whole number that is not negative, got -1"),
        ("seed = 3", "seed = [1]", r"seed must be a whole number that is not negative, got \[1\]"),
        ("seed = 3", "seed = 1.5", "seed must be a whole number that is not negative, got 1.5"),
        ("seed = 3", "seed = true", "seed must be a whole number that is not negative, got True"),
        ("seed = 3", "seed = 3\npool = 5", "pool must be the name of a file, got 5"),
        ('policy = "haml"', "policy = [1]", r"policy must be one of .* got \[1\]"),
        ("[reference]", "[reference]\nsettings = 5", r"settings of \[reference\] must be a table"),
        (
            "[reference]",
            "[reference]\nsettings = {options = 5}",
            r"\[reference\]: the setting options must be a table, as {maxiter=300}, got 5",
        ),
        (
            "[reference]",
            "[reference]\nsettings = {retries = 5}",
            r"\[reference\]: the setting retries must be a list of tables, .* got 5",
        ),
        (
            "threshold = [1.2, ",
            'threshold = ["a", ',
            r"threshold must be a list of float, got",
        ),
        (
            "n_perturbed = 5",
            'models = ["no.txt"]',
            r"models of \[start\]: there is no file .*no.txt",
        ),
        ("n_perturbed = 5", "md_steps = 9\nmd_temperature = 0.0", "md_temperature of the start"),
        (
            "epochs = 10",
            'epochs = 10\nbaseline = "a:b"',
            r"baseline of \[training\] must be left out",
        ),
        ("epochs = 10", "epochs = 10\npatience = 5", "patience needs a validation set"),
        *(
            (
                "epochs = 10",
                f"epochs = 10\n{key} = {value}",
                rf"{key} of \[training\] must .*{where}",
            )
            for key, value, where in (
                ("data", '["train.xyz"]', "the key pool at the top of the file"),
                ("replay", '["old.xyz"]', r"n_replay of \[trainer\]"),
                ("n_replay", "5", r"it belongs to \[trainer\]"),
                ("seed", "1", "it belongs to the top of the file"),
                ("output", '"."', "it belongs to the top of the file"),
            )
        ),
        ("fine_tune_epochs = 5", "n_replay = -1", "n_replay must be at least 0, got -1"),
        (
            "fine_tune_epochs = 5",
            "fine_tune_rate = inf",
            "fine_tune_rate must be positive, got inf",
        ),
        ("start.extxyz", "open.extxyz", "open.extxyz has no cell with three vectors"),
        ("n_perturbed = 5", 'structures = ["open.extxyz"]', "open.extxyz has no cell with three"),
        ("start.extxyz", "spin.extxyz", "spin.extxyz says n_unpaired=2, .* mean None"),
        ("start.extxyz", "grid.extxyz", "grid.extxyz says kpts=2x2x1, .* mean 1x1x1"),
        ("start.extxyz", "empty.extxyz", "the structure file .*empty.extxyz holds no atoms"),
        ("n_perturbed = 5", 'structures = ["empty.extxyz"]', "empty.extxyz holds no atoms"),
    ],
)
def test_a_wrong_value_is_named_and_leaves_nothing_begun(
    make_configuration, capsys, old, new, message
):
    path = make_configuration("haml")
    (path.parent / "empty.extxyz").touch()
    _write_odd_structures(path.parent)
    right = path.read_text()
    replace_in(path, old, new)
    assert main(["learn", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"qnep: error: {path}") and re.search(message, error), error
    assert not (path.parent / "run" / "state.json").exists()
    path.write_text(right)
    learner = make_learner(read_configuration(path), resume=False)
    learner.close()
    with pytest.raises(StateError, match="this learner is closed"):
        learner.run()
    with pytest.raises(ValueError, match="this reference is closed"):
        learner.reference.label(learner.parts.atoms, "test", "test")


def _write_odd_structures(folder: Path) -> None:
    """Write the start structure without a cell, with a spin and with k-points of its own."""
    atoms = read(folder / "start.extxyz")
    write(folder / "open.extxyz", Atoms(atoms.symbols, atoms.positions))
    for name, info in (("spin", {"n_unpaired": 2}), ("grid", {"kpts": "2x2x1"})):
        atoms.info = info
        write(folder / f"{name}.extxyz", atoms)


def test_spin_and_grid_that_the_settings_share_are_accepted(make_configuration):
    path = make_configuration(
        "haml", reference="settings = {n_unpaired = 2, kpts = [2, 2, 1]}", name="b"
    )
    _write_odd_structures(path.parent)
    for name in ("spin", "grid"):
        replace_in(path, "start.extxyz" if name == "spin" else "spin.extxyz", f"{name}.extxyz")
        make_learner(read_configuration(path), resume=False).close()


def test_files_of_the_training_are_beside_the_configuration(make_configuration):
    path = make_configuration("haml")
    random_model("Al", radial_cutoff=4.0, seed=1).write(str(path.parent / "before.txt"))
    replace_in(path, "epochs = 10", 'epochs = 10\nfine_tune = "before.txt"\nvalidation = "v.xyz"')
    text = path.read_text()  # what [model] says is left to the model
    path.write_text(text[: text.index("elements = ")] + text[text.index("[training]") :])
    learner = make_learner(read_configuration(path), resume=False)
    learner.close()
    training = learner.parts.trainer.settings.training
    assert training.fine_tune == str(path.parent / "before.txt")
    assert training.validation == (str(path.parent / "v.xyz"),)


def test_without_scikit_learn_only_a_fixed_threshold_is_possible(make_configuration, monkeypatch):
    adaptive = make_configuration("haml", "adaptive")
    fixed = make_configuration("haml", "fixed", gates="threshold = [1.2, 1.2, 1.2]")
    monkeypatch.setitem(sys.modules, "sklearn.isotonic", None)
    with pytest.raises(MissingExtra, match=r"'sklearn'.*qnep\[learn\]"):
        make_learner(read_configuration(adaptive), resume=False)
    learner = make_learner(read_configuration(fixed), resume=False)
    learner.close()
    for _ in range(6):
        learner.threshold.add(1.0, 1.0)
    assert learner.threshold.value == 1.2


def test_a_failure_of_another_run_on_the_same_pool_is_tried_again(make_configuration):
    path = make_configuration("haml", reference='settings = {options = {refuse = "refuse"}}')
    refuse = path.parent / "refuse"
    text = path.read_text().replace("ase.calculators.emt:EMT", "moody:moody_emt")
    path.write_text('pool = "pool.db"\n' + text.replace('"refuse"', f'"{refuse}"'))
    refuse.touch()
    with pytest.raises(ReferenceFailed, match="not in the mood"):
        make_learner(read_configuration(path), resume=False).run()
    refuse.unlink()
    replace_in(path, 'output = "run"', 'output = "other"')
    learner = make_learner(read_configuration(path), resume=False)
    assert next(learner._label_start()).is_new
    learner.close()


def test_each_structure_is_labelled_without_copies_too(make_configuration):
    path = make_configuration("haml")
    other = read(path.parent / "start.extxyz")
    other.rattle(0.05, seed=5)
    write(path.parent / "other.extxyz", other)
    replace_in(path, "n_perturbed = 5", 'n_perturbed = 0\nstructures = ["other.extxyz"]')
    learner = make_learner(read_configuration(path), resume=False)
    labelled = [one.frame.positions for one in learner._label_start()]
    learner.close()
    expected = [learner.parts.atoms.positions, other.positions]
    np.testing.assert_allclose(labelled, expected, atol=1e-7)  # the file has eight decimals


def test_a_wrong_value_of_a_run_in_python_is_named_too(make_configuration):
    path = make_configuration("haml")
    replace_in(path, "timestep_fs = 2.0", "timestep_fs = 0.0")
    with pytest.raises(ConfigurationError, match="timestep_fs"):
        make_learner(read_configuration(path), resume=False)


def test_a_training_cut_short_at_the_end_does_not_block_a_longer_run(
    make_configuration, monkeypatch, caplog
):
    """The last training of a run of 5 steps is interrupted; with 10 steps it comes later and has more labels."""
    from qnep.train.member import Member

    path = make_configuration(
        "aofl",
        gates="threshold = [0.001, 0.001, 0.001]\nsimilarity = 1e-6",
        options="n_steps = 5\nretrain_after = 50\nretrain_error = 100.0",
    )
    folder = path.parent / "run" / "models" / "0002"
    epoch = Member._epoch

    def interrupted(member):
        result = epoch(member)
        if (folder / "member0" / "checkpoint.npz").exists():
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(Member, "_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_learner(read_configuration(path), resume=False).run()
    monkeypatch.undo()
    assert (folder / "member0" / "checkpoint.npz").exists()
    replace_in(path, "n_steps = 5", "n_steps = 10")
    (folder / "of_the_shorter_run").touch()
    state = make_learner(read_configuration(path), resume=True).run()
    assert state.is_done and state.generation == 2
    assert "training anew" in caplog.text and "belongs to other data" in caplog.text
    assert not (folder / "of_the_shorter_run").exists()
    assert len(read(folder / "new.xyz", ":")) == 2


# --- velocities ---------------------------------------------------------------------------------------------------


def test_new_runs_and_the_hot_start_have_velocities_of_their_own(make_configuration):
    """Also where the file has some; without, the random numbers are those of ever."""
    table = {"start": "md_steps = 2\nmd_stride = 1"}
    plain, moving = (
        make_configuration("interface-reactor", name, **table) for name in ("plain", "moving")
    )
    atoms = read(moving.parent / "start.extxyz")
    atoms.set_momenta(np.random.default_rng(1).normal(size=(4, 3)))
    write(moving.parent / "start.extxyz", atoms)
    hot, again = [], []
    for path in (plain, moving):
        replace_in(path, "n_perturbed = 5", "n_perturbed = 0")
        learner = make_learner(read_configuration(path), resume=False)
        hot.append([labelled.frame.positions for labelled in learner._label_start()])
        began_with = learner.dynamics.atoms.get_momenta()
        learner.reference.close()
        again.append([])
        learner.turns.exchange_ml(learner._driver)  # any calculator: nothing is calculated
        for attempt in (2, 3):
            learner.start_again([3, 3, attempt])
            again[-1].append(learner.dynamics.atoms.get_momenta())
        learner.close()
    np.testing.assert_allclose(began_with, atoms.get_momenta(), atol=1e-7)  # the first run's
    np.testing.assert_array_equal(hot[0], hot[1])
    np.testing.assert_array_equal(again[0], again[1])
    assert np.abs(again[0][0] - again[0][1]).min() > 1e-6


@pytest.mark.dft
def test_copies_of_a_molecule_are_within_the_limit_of_a_force():
    """The default amplitude, with which the examples begin: at 0.1 Å two of these ten copies exceed 25 eV/Å."""
    tblite = pytest.importorskip("tblite.ase")
    ether = molecule("CH3CH2OCH3", vacuum=4.0)
    ether.pbc = True
    for frame in perturbed(Start(), ether, seed=1):
        frame.calc = tblite.TBLite(method="GFN1-xTB", verbosity=0)
        assert np.linalg.norm(frame.get_forces(), axis=1).max() < 25.0
