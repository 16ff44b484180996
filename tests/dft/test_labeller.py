"""Many labels: nothing lost, nothing doubled, whatever the DFT code does."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms

from qnep.dft import Labeller, Limits, Pool, backend_settings
from qnep.dft.worker import PROCESS_NAME

RELIABLE = "fakes:lennard_jones"
TREACHEROUS = "fakes:treacherous"
TIRING = "fakes:tiring"


def expected_energy(atoms):
    atoms = atoms.copy()
    atoms.calc = LennardJones(epsilon=0.01, sigma=2.5, rc=4.0)
    return atoms.get_potential_energy()


def energies_by_position(pool):
    return {
        round(atoms.positions[0, 0], 3): atoms.get_potential_energy() for atoms in pool.frames()
    }


def test_labels_equal_direct_calls(tmp_path, numbered_pairs):
    frames = numbered_pairs(6)
    pool = Pool(tmp_path / "pool.db")
    summary = Labeller(pool, RELIABLE, n_jobs=2).run(frames)
    assert (summary.n_labelled, summary.n_failed) == (6, 0)
    stored = energies_by_position(pool)
    for atoms in frames:
        assert stored[round(atoms.positions[0, 0], 3)] == pytest.approx(expected_energy(atoms))


def test_rerun_labels_nothing_twice(tmp_path, numbered_pairs):
    frames = numbered_pairs(4)
    Labeller(Pool(tmp_path / "pool.db"), RELIABLE).run(frames[:2])
    summary = Labeller(Pool(tmp_path / "pool.db"), RELIABLE).run([*frames, frames[3]])
    assert (summary.n_labelled, summary.n_skipped) == (2, 3)


def test_a_frame_that_is_given_twice_is_labelled_once(tmp_path, numbered_pairs):
    """The second one waits in the queue before the first one is in the pool; another grid is another label."""
    first, other = numbered_pairs(2)
    image, denser = first.copy(), first.copy()
    image.positions += image.cell[1]
    denser.info["kpts"] = "2x2x1"
    made = tmp_path / "made"
    settings = backend_settings(TIRING, options={"made": str(made), "n_good": 1})
    summary = Labeller(Pool(tmp_path / "pool.db"), TIRING, settings).run(
        [first, other, first, image, denser]
    )
    assert (summary.n_labelled, summary.n_skipped, summary.n_retries) == (3, 2, 0)
    assert len(made.read_text().split()) == 3  # one calculation each


def moved(atoms, distance):
    """The structure with its second atom further along x."""
    atoms = atoms.copy()
    atoms.positions[1, 0] += distance
    return atoms


@pytest.mark.parametrize(
    ("n_good", "change", "n_made"),
    [
        (1000, lambda atoms: moved(atoms, 0.3), 1),  # steps of molecular dynamics: orbitals stay
        (1000, lambda atoms: moved(atoms, 0.8), 4),
        (1000, lambda atoms: Atoms("ArNe", atoms.positions, cell=atoms.cell, pbc=True), 2),
        (1000, lambda atoms: Atoms(atoms, cell=atoms.cell * 1.01), 4),
        (3, lambda atoms: moved(atoms, 0.3), 2),  # made anew where the kept one fails
    ],
    ids=["steps", "far", "elements", "cell", "failure"],
)
def test_calculator_is_kept_for_steps(tmp_path, numbered_pairs, n_good, change, n_made):
    """Labels of structures that follow one another closely begin with the orbitals of the last one."""
    frames = numbered_pairs(1)
    for _ in range(3):
        frames.append(change(frames[-1]))
        frames[-1].positions[1, 2] += 0.01  # none equals another
    made = tmp_path / "made"
    settings = backend_settings(TIRING, options={"made": str(made), "n_good": n_good}, retries=())
    pool = Pool(tmp_path / "pool.db")
    summary = Labeller(pool, TIRING, settings).run(frames)
    assert (summary.n_labelled, summary.n_failed) == (4, 0)
    assert len(made.read_text().split()) == n_made
    for atoms in pool.frames():
        assert atoms.get_potential_energy() == pytest.approx(expected_energy(atoms))


@pytest.mark.parametrize("n_frames", [120, pytest.param(1000, marks=pytest.mark.long)])
def test_labels_with_faults(tmp_path, numbered_pairs, n_frames):
    """Each 20th frame raises, hangs or kills its process once: all are labelled, each once."""
    frames = numbered_pairs(n_frames)
    (marks := tmp_path / "marks").mkdir()
    settings = backend_settings(
        TREACHEROUS, options={"period": 20, "marks": str(marks)}, retries=({}, {})
    )
    pool = Pool(tmp_path / "pool.db")
    summary = Labeller(pool, TREACHEROUS, settings, n_jobs=6, time_limit_s=8.0).run(frames)
    assert summary.n_labelled == n_frames
    faults = range(0, n_frames, 20)
    assert {int(mark.name) for mark in marks.iterdir()} == set(faults)
    # One that raises in a kept calculator is done again with a new one, which is no retry of the labeller; a busy
    # machine may add time-outs of its own.
    assert summary.n_retries >= sum(number // 20 % 3 != 0 for number in faults)
    assert len(energies_by_position(pool)) == len(pool) == n_frames
    assert pool.n_set_aside == 0


def test_frames_that_always_fail_are_set_aside_with_the_log(tmp_path, numbered_pairs):
    """Frames 0, 4 and 8 raise, hang and kill; the other six are labelled."""
    settings = backend_settings(TREACHEROUS, options={"period": 4}, retries=({},))
    pool = Pool(tmp_path / "pool.db")
    summary = Labeller(pool, TREACHEROUS, settings, n_jobs=3, time_limit_s=5.0).run(
        numbered_pairs(9)
    )
    assert (summary.n_labelled, summary.n_failed, summary.n_retries) == (6, 3, 3)
    reasons = {round(atoms.positions[0, 0] / 0.04): failure for atoms, failure in pool.failures()}
    assert reasons[0].reason == "RuntimeError: SCF did not converge"
    assert reasons[1].reason == "no result after 5 s, killed"
    assert reasons[2].reason == "the process died (killed by SIGKILL)"
    assert all(failure.attempts == 2 for failure in reasons.values())
    # Set aside means not tried again ...
    again = Labeller(pool, TREACHEROUS, settings).run(numbered_pairs(9))
    assert (again.n_skipped, again.n_set_aside_before) == (9 - pool.n_set_aside, pool.n_set_aside)


def test_the_log_of_the_code_is_kept(tmp_path, numbered_pairs):
    settings = backend_settings(TREACHEROUS, options={"period": 1})
    pool = Pool(tmp_path / "pool.db")
    Labeller(pool, TREACHEROUS, settings).run(numbered_pairs(1))
    ((_, failure),) = pool.failures()
    assert "density did not settle after 100 steps" in failure.log


@pytest.mark.parametrize("time_limit_s", [1e7, float("inf")])
def test_a_time_limit_may_be_longer_than_the_system_can_wait(
    tmp_path, numbered_pairs, time_limit_s
):
    """The system counts milliseconds in 32 bits, 25 days."""
    labeller = Labeller(Pool(tmp_path / "pool.db"), RELIABLE, time_limit_s=time_limit_s)
    assert labeller.run(numbered_pairs(1)).n_labelled == 1


def test_large_forces_are_rejected(tmp_path, numbered_pairs):
    pool = Pool(tmp_path / "pool.db")
    summary = Labeller(pool, RELIABLE, limits=Limits(force=1e-3)).run(numbered_pairs(1))
    assert summary.n_failed == 1
    assert "RejectedLabel: largest force" in summary.reasons[0]


@pytest.mark.parametrize(
    ("limits", "n_retries", "n_made"),
    [(Limits(force=1e-3), 0, 1), (Limits(net_force=0.1), 2, 3)],
    ids=["largest force", "net force"],
)
def test_large_forces_are_not_tried_again(tmp_path, numbered_pairs, limits, n_retries, n_made):
    """No way to converge makes atoms inside each other acceptable; a net force may be the SCF's."""
    made = tmp_path / "made"
    settings = backend_settings(
        TIRING, options={"made": str(made), "n_good": 9, "push": 0.2}, retries=({}, {})
    )
    pool = Pool(tmp_path / "pool.db")
    summary = Labeller(pool, TIRING, settings, limits=limits).run(numbered_pairs(1))
    assert (summary.n_failed, summary.n_retries) == (1, n_retries)
    assert len(made.read_text().split()) == n_made
    ((_, failure),) = pool.failures()
    assert failure.attempts == n_retries + 1


def test_fixed_atoms_keep_their_forces(tmp_path):
    """Constraints are for moving atoms, not for labels: forces as of the free structure."""
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    free = atoms.copy()
    free.calc = EMT()
    atoms.set_constraint(FixAtoms([0, 1]))
    pool = Pool(tmp_path / "pool.db")
    Labeller(pool, "ase.calculators.emt:EMT").run([atoms])
    (labelled,) = pool.frames()
    np.testing.assert_allclose(labelled.get_forces(), free.get_forces(), atol=1e-9)
    assert np.linalg.norm(labelled.get_forces()[:2], axis=1).min() > 0.1


def test_a_structure_may_ask_for_its_charge_and_spin(tmp_path, numbered_pairs):
    """Each state is a label of its own, also with the same positions; neutral without spin has no suffix."""
    frames = [numbered_pairs(1)[0] for _ in range(4)]
    frames[1].info["total_charge"] = 1
    frames[2].info.update(total_charge=-0.5, n_unpaired=1)
    frames[3].info["n_unpaired"] = 0
    pool = Pool(tmp_path / "pool.db")
    labeller = Labeller(pool, RELIABLE)
    assert labeller.run(frames).n_labelled == 4
    suffixes = [atoms.info["level"].removeprefix(labeller.level) for atoms in pool.frames()]
    assert suffixes == ["", " q+1", " q-0.5 u1", " u0"]
    assert labeller.run(frames).n_skipped == 4
    charged = Labeller(pool, RELIABLE, backend_settings(RELIABLE, total_charge=1))
    assert charged.level == f"{labeller.level} q+1"
    assert charged.run(frames[:1]).n_skipped == 1


def test_states_that_fail_are_set_aside_one_by_one(tmp_path, numbered_pairs):
    neutral, charged = numbered_pairs(1) * 2
    charged = charged.copy()
    charged.info["total_charge"] = 1
    settings = backend_settings(TREACHEROUS, options={"period": 1}, retries=())
    pool = Pool(tmp_path / "pool.db")
    labeller = Labeller(pool, TREACHEROUS, settings)
    assert labeller.run([charged]).n_failed == 1
    assert pool.is_set_aside(charged, f"{labeller.level} q+1", "1x1x1")
    assert not pool.is_set_aside(neutral, labeller.level, "1x1x1")


def test_any_executor(tmp_path, numbered_pairs):
    pool = Pool(tmp_path / "pool.db")
    with ProcessPoolExecutor(2) as executor:
        summary = Labeller(pool, RELIABLE, executor=executor, n_jobs=2).run(numbered_pairs(4))
    assert summary.n_labelled == len(pool) == 4


def test_kill_loses_only_what_was_running(tmp_path, numbered_pairs):
    """Kill the run while it labels: the pool holds whole labels, no worker survives, a second run does the rest.

    One label hangs until the kill, so that the run cannot be over before, however slow this process is.
    """
    marks = tmp_path / "marks"
    marks.mkdir()
    (marks / "0").touch()  # of the frames with a number that 80 divides only this one strikes
    options = {"period": 80, "marks": str(marks)}
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from ase.io import read\n"
        "from qnep.dft import Labeller, Pool\n"
        "from qnep.dft.backends import backend_settings\n"
        f"settings = backend_settings({TREACHEROUS!r}, options={options!r})\n"
        f"Labeller(Pool({str(tmp_path / 'pool.db')!r}), {TREACHEROUS!r}, settings, n_jobs=2).run(\n"
        f"    read({str(tmp_path / 'frames.extxyz')!r}, ':'))\n"
    )
    from ase.io import write

    frames = numbered_pairs(100)
    write(tmp_path / "frames.extxyz", frames)
    process = subprocess.Popen([sys.executable, str(script)])
    while not (marks / "80").exists() or len(Pool(tmp_path / "pool.db")) < 5:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    pool = Pool(tmp_path / "pool.db")
    n_before = len(pool)
    assert 5 <= n_before < 100
    settings = backend_settings(TREACHEROUS, options=options)
    summary = Labeller(pool, TREACHEROUS, settings, n_jobs=2).run(frames)
    assert summary.n_labelled == 100 - n_before
    assert len(energies_by_position(pool)) == 100


def test_workers_end_with_the_run(tmp_path, numbered_pairs):
    psutil = pytest.importorskip("psutil")
    Labeller(Pool(tmp_path / "pool.db"), RELIABLE, n_jobs=2).run(numbered_pairs(2))
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if PROCESS_NAME in child.cmdline()]


def test_a_structure_may_ask_for_its_grid(tmp_path, numbered_pairs):
    frames = numbered_pairs(2)
    frames[1].info["kpts"] = "2x2x1"
    pool = Pool(tmp_path / "pool.db")
    Labeller(pool, RELIABLE).run(frames)
    assert [atoms.info["kpts"] for atoms in pool.frames()] == ["1x1x1", "2x2x1"]


def test_net_force_is_removed_and_kept(tmp_path, numbered_pairs):
    pool = Pool(tmp_path / "pool.db")
    Labeller(pool, RELIABLE).run(numbered_pairs(1))
    (atoms,) = pool.frames()
    assert np.abs(atoms.get_forces().sum(axis=0)).max() < 1e-12
    assert atoms.info["net_force_removed"].shape == (3,)


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"n_jobs": 0}, "n_jobs must be a whole number from 1, got 0"),
        ({"n_threads": 0}, "n_threads must be a whole number from 1, got 0"),
        ({"n_threads": -3}, "n_threads must be a whole number from 1, got -3"),
        ({"n_threads": 1.5}, "n_threads must be a whole number from 1, got 1.5"),
        ({"time_limit_s": -1}, "must be positive"),
        ({"time_limit_s": float("nan")}, "must be positive"),
    ],
)
def test_bad_arguments(tmp_path, keywords, text):
    with pytest.raises(ValueError, match=text):
        Labeller(Pool(tmp_path / "pool.db"), RELIABLE, **keywords)
