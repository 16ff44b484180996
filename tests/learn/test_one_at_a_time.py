"""One process at a time in the folder of a run and on its pool, and workers that end with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from qnep.cli import main
from qnep.dft.pool import Pool, PoolError
from qnep.dft.worker import PROCESS_NAME
from qnep.learn import ReferenceFailed, StateError, make_learner, read_configuration
from qnep.learn.state import RunLock, read_decisions

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")


def workers_of(parent: int) -> list[int]:
    """Return the labelling processes that a process has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            status = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if PROCESS_NAME.encode() in command and int(status[1]) == parent:
            found.append(int(folder.name))
    return found


def run_python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def contents(folder: Path) -> dict[str, bytes]:
    names = ("state.json", "decisions.jsonl", "trajectory.extxyz", "pool.db")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


@needs_proc
def test_a_second_process_is_refused_and_the_live_run_goes_on_untouched(
    finished, make_configuration
):
    path = make_configuration("aofl")
    folder = path.parent / "run"
    learner = make_learner(read_configuration(path), resume=False)
    advance, errors = type(learner.parts.policy).advance, []

    def disturbed(learner):
        if len(errors) < 4 and learner.state.counts.get("accept", 0) + learner.n_untrained > 0:
            before = contents(folder)
            for resume in (["--resume"], []):
                program = "import sys; from qnep.cli import main; sys.exit(main(sys.argv[1:]))"
                second = run_python(program, "learn", str(path), *resume)
                assert second.returncode == 2
                errors.append(second.stderr)
                with pytest.raises(StateError) as failure:
                    make_learner(read_configuration(path), bool(resume))
                errors.append(str(failure.value))
            with pytest.raises(PoolError, match="another run is writing"), Pool(folder / "pool.db"):
                pass
            assert contents(folder) == before
            assert workers_of(os.getpid())
        advance(learner.parts.policy, learner)

    object.__setattr__(learner.parts.policy, "advance", disturbed)
    assert learner.run().is_done
    assert len(errors) == 4
    assert all(f"another process works in {folder}" in error for error in errors)
    assert not any("Traceback" in error for error in errors)
    assert list(read_decisions(folder)) == list(read_decisions(finished("aofl").parent / "run"))
    assert workers_of(os.getpid()) == []


@needs_proc
def test_a_failed_run_does_not_block_the_next_one_in_the_same_process(
    make_configuration, monkeypatch
):
    """As in a notebook, which keeps the first learner and its exception."""
    path = make_configuration("haml", reference='settings = {options = {refuse = "refuse"}}')
    refuse = path.parent / "refuse"
    text = path.read_text().replace("ase.calculators.emt:EMT", "moody:moody_emt")
    path.write_text(text.replace('"refuse"', f'"{refuse}"'))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    refuse.touch()
    first = make_learner(read_configuration(path), resume=False)
    with pytest.raises(ReferenceFailed) as failure:
        first.run()
    assert workers_of(os.getpid()) == []
    refuse.unlink()
    assert make_learner(read_configuration(path), resume=True).run().is_done
    with pytest.raises(StateError, match="make a new one with resume=True"):
        first.run()
    assert "not in the mood" in str(failure.value)


def test_locks_are_released_when_a_loop_cannot_be_made(make_configuration):
    """The exceptions are kept, and with them all that was on the stack."""
    path = make_configuration("haml")
    right, kept = path.read_text(), []
    wrong = ("timestep_fs = 0.0", "check_interval = 0")
    for old, new in zip(("timestep_fs = 2.0", "check_interval = 5"), wrong):
        path.write_text(right.replace(old, new))
        with pytest.raises(ValueError) as failure:
            make_learner(read_configuration(path), resume=False)
        kept.append(failure)
    path.write_text(right.replace('"ase.calculators.emt:EMT"', '"nothing"'))
    with pytest.raises(ValueError, match="unknown backend") as failure:
        make_learner(read_configuration(path), resume=False)
    kept.append(failure)
    path.write_text(right)
    with pytest.raises(StateError, match="no run to resume") as failure:
        make_learner(read_configuration(path), resume=True)
    kept.append(failure)
    learner = make_learner(read_configuration(path), resume=False)
    learner.close()
    learner.close()
    with Pool(path.parent / "run" / "pool.db"):
        pass


def test_a_lock_that_is_forgotten_is_released(tmp_path):
    lock = RunLock(tmp_path)
    with pytest.raises(StateError, match="another process works in"):
        RunLock(tmp_path)
    assert lock.is_held
    del lock
    RunLock(tmp_path).release()


@needs_proc
def test_a_script_that_does_not_close_leaves_no_worker(make_configuration):
    path = make_configuration("haml")
    program = (
        "import os, sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_one_at_a_time import workers_of\n"
        "from qnep.learn import make_learner, read_configuration\n"
        "learner = make_learner(read_configuration(Path(sys.argv[1])), resume=False)\n"
        "learner.reference.label(learner.parts.atoms, 'test', 'test')\n"
        "print(*workers_of(os.getpid()))\n"
    )
    ended = run_python(program, str(path))
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
    (worker,) = map(int, ended.stdout.split())
    assert not Path(f"/proc/{worker}").exists()
    make_learner(read_configuration(path), resume=True).close()


def test_a_frame_that_the_pool_knows_is_found_again(make_configuration):
    """Moved by 8e-4 Å along x and y: each component is within 1e-3 Å, the norm is not."""
    path = make_configuration("haml")
    learner = make_learner(read_configuration(path), resume=False)
    atoms = read(path.parent / "start.extxyz")
    first = learner.reference.label(atoms, "test", "test")
    atoms.positions[0] += [8e-4, 8e-4, 0.0]
    atoms.positions[1] += atoms.cell[0]
    again = learner.reference.label(atoms, "test", "test")
    assert first.number == again.number and first.is_new and not again.is_new
    np.testing.assert_array_equal(again.frame.positions, first.frame.positions)
    learner.close()


def test_a_run_that_has_used_up_its_attempts_goes_on_with_more(make_configuration, capsys):
    """Each run fails at its first look."""
    path = make_configuration(
        "interface-reactor",
        gates='uncertainty = "grade"\nforce_ceiling = 1e-6',
        options="n_steps = 10\nwindow = 2\nkeep_every = 2\nmax_attempts = 1",
    )
    assert main(["learn", str(path)]) == 1
    out = capsys.readouterr().out
    assert "1 runs have failed" in out
    assert "Raise max_attempts of [options] and go on with --resume" in out
    path.write_text(path.read_text().replace("max_attempts = 1", "max_attempts = 2"))
    assert main(["learn", str(path), "--resume"]) == 1
    assert "2 runs have failed" in capsys.readouterr().out
