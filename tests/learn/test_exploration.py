"""Exploration by LAMMPS: its frames against the calculators here, the loop on top of it, and what goes wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixedLine

from lammps_runs import skip_without_plugin
from qnep import QNEP, Committee
from qnep.cli import main
from qnep.learn import ActiveSet, Features, State, make_learner, read_configuration
from qnep.learn.dynamics import Dynamics, TurnTaker
from qnep.learn.exploration import (
    ExplorationFailed,
    LammpsExploration,
    LammpsSettings,
    Langevin,
    Unphysical,
    read_tables,
)
from qnep.learn.state import read_decisions
from qnep.model import Model, random_model

ENGINE = 'engine = "lammps"\nstretch_steps = 15\nkspace = "direct"'


@pytest.fixture(scope="module", autouse=True)
def _needs_lammps():
    skip_without_plugin()


@pytest.fixture
def models(tmp_path) -> list[Path]:
    """Two models of sodium fluoride with charges."""
    paths = []
    for seed in (3, 4):
        model = random_model("F Na", charge_mode=2, radial_cutoff=4.0, seed=seed, energy_scale=0.2)
        paths.append(tmp_path / f"nep{seed}.txt")
        model.write(str(paths[-1]))
    return paths


def salt():
    """A tilted cell that LAMMPS must turn, one atom outside of it."""
    atoms = bulk("NaF", "rocksalt", a=4.7) * (2, 2, 1)
    atoms.rattle(0.05, seed=2)
    atoms.positions[0] -= atoms.cell[2]
    return atoms


def explore(
    atoms, models, folder, measure="deviation", settings=None, temperature=300.0, total_charge=0.0
):
    """Return dynamics, and LAMMPS that continues them."""
    committee = Committee([str(path) for path in models], total_charge=total_charge)
    dynamics = Dynamics(atoms, TurnTaker(EMT(), committee), temperature, 0.5, 0.01, seed=7)
    langevin = Langevin(temperature, 0.5, 0.01, 5)
    settings = settings or LammpsSettings(stretch_steps=20, kspace="direct")
    exploration = LammpsExploration(
        settings, langevin, measure, folder, dynamics.atoms, total_charge
    )
    exploration.use_models(models, folder / "active_set.txt")
    return dynamics, exploration


def take(dynamics, exploration, limit=1e9, most_steps=1000):
    frame = exploration.next_frame(dynamics, limit, most_steps)
    dynamics.place(frame.step, frame.positions, frame.momenta)
    return frame


# --- frames -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["lmp", pytest.param("mpirun -n 2 lmp", marks=pytest.mark.mpi)])
def test_frames_hold_what_the_calculators_say_there(models, tmp_path, command):
    """Positions turned back, forces without the thermostat's, energy, and the deviation of the committee."""
    settings = LammpsSettings(command, stretch_steps=20, kspace="direct")
    dynamics, exploration = explore(salt(), models, tmp_path, settings=settings)
    before = dynamics.atoms.copy()
    frames = [take(dynamics, exploration) for _ in range(3)]
    assert [frame.step for frame in frames] == [5, 10, 15]
    atoms = dynamics.atoms.copy()
    assert 1e-3 < np.abs(atoms.positions - before.positions).max() < 1  # unwrapped, and moved
    first, committee = QNEP(str(models[0])), Committee([str(path) for path in models])
    atoms.calc = first
    np.testing.assert_allclose(frames[-1].results["forces"], atoms.get_forces(), atol=1e-7)
    assert frames[-1].results["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
    committee.calculate(atoms)
    wanted = np.linalg.norm(committee.results["forces_std"], axis=1)
    np.testing.assert_allclose(frames[-1].results["deviations"], wanted, atol=1e-7)
    # Between two frames the atoms move by velocity times time, up to the noise: about sqrt(2 0.025 / 12) = 6 %.
    moved = frames[2].positions - frames[1].positions
    velocities = (frames[1].momenta + frames[2].momenta) / 2 / atoms.get_masses()[:, None]
    error = np.abs(moved - velocities * 5 * 0.5 * units.fs).max()
    assert error < 0.2 * np.abs(moved).max()


def test_a_charged_cell_is_charged_in_lammps_too(models, tmp_path):
    dynamics, exploration = explore(salt(), models, tmp_path, total_charge=1.5)
    frame = take(dynamics, exploration)
    energies = {}
    for charge in (0.0, 1.5):
        calculator = QNEP(str(models[0]), total_charge=charge)
        calculator.calculate(dynamics.atoms)
        energies[charge] = calculator.results["energy"]
    np.testing.assert_allclose(frame.results["forces"], calculator.results["forces"], atol=1e-7)
    assert frame.results["energy"] == pytest.approx(energies[1.5], abs=1e-7)
    assert abs(energies[1.5] - energies[0.0]) > 0.01


def test_grades_are_those_of_the_active_set(models, tmp_path):
    dynamics, exploration = explore(salt(), models, tmp_path, measure="grade")
    model = Model.read(str(models[0]))
    features, known = Features(model), {"F": [], "Na": []}
    for seed in range(10):
        copy = salt()
        copy.rattle(0.05, seed=seed)
        for element, rows in known.items():
            rows.append(features(copy)[np.array(copy.get_chemical_symbols()) == element])
    active = ActiveSet.fit({element: np.vstack(rows) for element, rows in known.items()})
    active.write_for_lammps(tmp_path / "active_set.txt", model)
    frame = take(dynamics, exploration)
    wanted = active.grades(features(dynamics.atoms), dynamics.atoms.get_chemical_symbols())
    np.testing.assert_allclose(frame.results["grades"], wanted, rtol=1e-6)


def test_a_stretch_breaks_off_at_the_threshold_and_the_next_one_does_not(models, tmp_path):
    dynamics, exploration = explore(salt(), models, tmp_path)
    start = dynamics.snapshot()
    worst = [take(dynamics, exploration).results["deviations"].max() for _ in range(4)]
    limit = np.sort(worst)[-2] - 1e-9
    wanted = int(np.argmax(np.array(worst) > limit))
    exploration.forget()
    dynamics.restore(start)
    again = [take(dynamics, exploration, limit).results["deviations"].max()]
    stretch = exploration.memory
    while exploration.memory == {**stretch, "n_used": len(again)}:
        again.append(take(dynamics, exploration, limit).results["deviations"].max())
    assert again[: wanted + 1] == worst[: wanted + 1]  # bit for bit: the same stretch
    assert exploration.memory["start"]["step"] == 5 * (wanted + 1)
    assert exploration.memory["limit"] is None and stretch["limit"] == limit


def test_a_stretch_is_repeated_from_its_memory(models, tmp_path):
    """As after a kill in its middle; a third explorer begins anew and finds another noise."""
    dynamics, exploration = explore(salt(), models, tmp_path)
    take(dynamics, exploration)
    memory, snapshot = exploration.memory, dynamics.snapshot()
    wanted = [take(dynamics, exploration) for _ in range(4)][-1]
    dynamics, exploration = explore(salt(), models, tmp_path)
    dynamics.restore(snapshot)
    exploration.restore(memory)
    again = [take(dynamics, exploration) for _ in range(4)][-1]
    assert again.step == wanted.step == 25  # in the second stretch
    np.testing.assert_array_equal(again.positions, wanted.positions)
    np.testing.assert_array_equal(again.momenta, wanted.momenta)


def test_fixed_atoms_stay_where_they_are(models, tmp_path):
    atoms = salt()
    atoms.set_constraint(FixAtoms([1, 4]))
    dynamics, exploration = explore(atoms, models, tmp_path)
    for _ in range(4):
        take(dynamics, exploration)
    moved = np.abs(dynamics.atoms.positions - atoms.positions).max(axis=1)
    np.testing.assert_allclose(moved[[1, 4]], 0, atol=1e-12)
    assert np.delete(moved, [1, 4]).min() > 1e-3
    np.testing.assert_array_equal(dynamics.atoms.get_momenta()[[1, 4]], 0)


def test_the_thermostat_holds_the_temperature(tmp_path, models):
    """Forces of a model that is nearly zero: free particles, whose kinetic energy relaxes in 1 / (2 friction) = 50 fs.

    200 looks every 25 fs at 64 atoms from 1 ps on: standard error of the mean temperature 1.4 %, tested at 5 %.
    """
    model = random_model("F Na", radial_cutoff=4.0, seed=1, energy_scale=1e-6)
    model.write(str(tmp_path / "weak.txt"))
    atoms = bulk("NaF", "rocksalt", a=4.7, cubic=True) * 2
    settings = LammpsSettings(stretch_steps=12000, kspace="direct")
    paths = [tmp_path / "weak.txt"] * 2
    dynamics, _ = explore(atoms, paths, tmp_path, settings=settings)
    langevin = Langevin(300.0, 0.5, 0.01, 50)
    exploration = LammpsExploration(settings, langevin, "deviation", tmp_path, atoms)
    exploration.use_models(paths, Path())
    temperatures = []
    for _ in range(240):
        take(dynamics, exploration, most_steps=12000)
        temperatures.append(dynamics.atoms.get_temperature())
    assert np.mean(temperatures[40:]) == pytest.approx(300.0, rel=0.05)


# --- the loop -----------------------------------------------------------------------------------------------------


def learn(path: Path, resume: bool = False, most_events: int = 10**9) -> State:
    """Run the loop, or leave it in the middle as a kill after an event would."""
    learner = make_learner(read_configuration(path), resume)
    advance, n_events = type(learner.parts.policy).advance, 0

    class Killed(Exception):
        pass

    def counted(policy, learner):
        nonlocal n_events
        if n_events == most_events:
            raise Killed
        n_events += 1
        advance(policy, learner)

    object.__setattr__(
        learner.parts.policy, "advance", lambda learner: counted(learner.parts.policy, learner)
    )
    try:
        return learner.run()
    except Killed:
        return learner.state


def _kill_while_lammps_runs(path: Path) -> None:
    command = [sys.executable, "-m", "qnep.cli", "learn", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if list((path.parent / "run" / "exploration").glob("*/in.lammps.screen")):
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not State.load(path.parent / "run").is_done


def decisions(path: Path) -> list[dict]:
    return list(read_decisions(path.parent / "run"))


def test_aofl_labels_frames_that_lammps_hands_back(finished):
    path = finished("aofl", ENGINE)
    state = State.load(path.parent / "run")
    assert state.is_done and state.counts["steps_ml"] == state.snapshot["step"] == 25
    asked = [decision for decision in decisions(path) if decision["action"] == "label"]
    assert asked and all(decision["error"] > 0 for decision in asked)


def test_haml_breaks_on_the_grade_that_lammps_calculates(finished):
    path = finished("haml", ENGINE)
    state = State.load(path.parent / "run")
    assert state.is_done and state.counts["window"] >= 1
    assert state.counts["steps_reference"] >= 6
    opened = [decision for decision in decisions(path) if decision["action"] == "window"]
    for decision in opened:
        findings = {finding["gate"]: finding for finding in decision["findings"]}
        assert findings["extrapolation grade"]["fires"]


def test_a_broken_off_run_on_lammps_makes_the_same_decisions(
    finished, make_configuration, monkeypatch
):
    """Killed -9 while LAMMPS runs, then left after every third event, in the middle of a stretch too; models stay."""
    folder = finished("aofl", ENGINE).parent / "run"
    tables = {
        "exploration": ENGINE,
        "start": f"models = {[str(folder / file) for file in State.load(folder).models]}",
        "gates": "threshold = [0.5, 0.5, 0.5]\nsimilarity = 0.05\nenergy_jump = 1e9",
        "options": "n_steps = 40\nretrain_after = 100\nretrain_error = 100.0",
    }
    whole, path = (make_configuration("aofl", name, **tables) for name in ("whole", "broken"))
    learn(whole)
    _kill_while_lammps_runs(path)
    # Only the first of several looks in a row is saved: those after it are done again, to the same frames.
    monkeypatch.setattr("qnep.learn.learner.SAVE_INTERVAL_S", 1e9)
    state, in_stretch = State(""), False
    for _ in range(50):
        if state.is_done:
            break
        state = learn(path, resume=True, most_events=3)
        in_stretch |= state.exploration is not None
    assert state.is_done and in_stretch
    assert {"label", "accept"} <= {decision["action"] for decision in decisions(whole)}
    for one, other in zip(decisions(path), decisions(whole), strict=True):
        assert (one["step"], one["action"]) == (other["step"], other["action"])
        assert one.get("error", 0) == pytest.approx(other.get("error", 0), rel=1e-5)


# --- what goes wrong ----------------------------------------------------------------------------------------------


def test_a_structure_that_flies_apart_is_an_alarm_and_not_the_end(models, tmp_path):
    """A timestep of 50 ps per step of LAMMPS's unit: the frames until then are sound, then LAMMPS refuses."""
    dynamics, _ = explore(salt(), models, tmp_path)
    settings = LammpsSettings(stretch_steps=200, kspace="direct")
    exploration = LammpsExploration(
        settings, Langevin(1e7, 40.0, 0.01, 1), "deviation", tmp_path, dynamics.atoms
    )
    exploration.use_models(models, Path())
    with pytest.raises(Unphysical) as failure:
        for _ in range(201):
            take(dynamics, exploration)
    assert str(failure.value)


def test_lammps_that_cannot_begin_stops_the_loop(finished, make_configuration, capsys):
    folder = finished("aofl").parent / "run"
    files = [str(folder / file) for file in State.load(folder).models]
    path = make_configuration(
        "aofl", exploration='engine = "lammps"\nkspace = "fmm 3"', start=f"models = {files}"
    )
    assert main(["learn", str(path)]) == 1
    out = capsys.readouterr().out
    assert "LAMMPS stopped" in out and "fmm" in out and "--resume tries again" in out


def test_missing_output_is_not_taken_for_the_end_of_a_stretch(models, tmp_path, monkeypatch):
    """A full disk cuts the dump: LAMMPS itself does not notice."""
    dynamics, exploration = explore(salt(), models, tmp_path)

    def cut(path, n_atoms):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return read_tables(path, n_atoms)

    monkeypatch.setattr("qnep.learn.exploration.read_tables", cut)
    with pytest.raises(ExplorationFailed, match=r"of 4 frames .* disk full"):
        take(dynamics, exploration)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('engine = "gromacs"', "engine of .* ase or lammps, got 'gromacs'"),
        ("stretch_steps = 5", 'stretch_steps but not engine = "lammps"'),
        ('engine = "lammps"\nstretch_steps = 3', "at least check_interval = 5, got 3"),
        ('engine = "lammps"\nn_threads = 0', "n_threads of the exploration .* got 0"),
        ('engine = "lammps"\nranks = 3', "unknown key 'ranks'"),
        ('engine = "lammps"\ncommand = "no-such-lmp"', "no program 'no-such-lmp'"),
    ],
)
def test_wrong_tables(make_configuration, capsys, table, message):

    assert main(["learn", str(make_configuration("aofl", exploration=table))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("qnep: error:") and re.search(message, error), error


def test_structures_that_lammps_is_not_given(models, tmp_path):
    slab = salt()
    slab.pbc = [True, True, False]
    with pytest.raises(ValueError, match="periodic in x, y and z, got pbc"):
        explore(slab, models, tmp_path)
    line = salt()
    line.set_constraint(FixedLine(0, [0, 0, 1]))
    with pytest.raises(ValueError, match="no other constraint, got FixedLine"):
        explore(line, models, tmp_path)
