"""Worker processes end when they are no longer wanted, and labels that nobody waits for are given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ase.io import write

from qnep.dft import Labeller, Pool, backend_settings
from qnep.dft.label import Limits
from qnep.dft.labeller import ExecutorBroken
from qnep.dft.worker import Job, LocalExecutor, _Child, run_job

psutil = pytest.importorskip("psutil")

RELIABLE = "fakes:lennard_jones"
SLEEPING = "fakes:sleeping"
PATIENCE_S = 120.0  # far below the hour that the sleeping code needs


@pytest.fixture
def begun(tmp_path):
    """File that a label of SLEEPING makes when it has begun."""
    return tmp_path / "begun"


@pytest.fixture
def sleeping_settings(begun):
    return backend_settings(SLEEPING, options={"begun": str(begun)}, retries=())


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def worker_and_folder(begun: Path) -> tuple[int, Path]:
    """Process and folder of the label that sleeps."""
    wait_for(begun.exists)
    process_id, folder = begun.read_text().split()
    return int(process_id), Path(folder)


def has_ended(process_id: int) -> bool:
    try:
        return psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def start(arguments: list[str], folder: Path) -> subprocess.Popen:
    search_path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": search_path}
    )


def test_interrupt_ends_the_command_and_its_workers(tmp_path, begun, numbered_pairs):
    """Ctrl-C while a label runs: the label is given up, and not held against the structure."""
    write(tmp_path / "frames.extxyz", numbered_pairs(2))
    command = f"-m qnep.cli label frames.extxyz --backend {SLEEPING} --set"
    process = start([*command.split(), f'options={{begun="{begun}"}}'], tmp_path)
    worker, folder = worker_and_folder(begun)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=PATIENCE_S) == 130
    assert has_ended(worker)
    assert not folder.exists()
    pool = Pool(tmp_path / "labels.db")
    assert (len(pool), pool.n_set_aside) == (0, 0)


def test_shutdown_gives_up_the_running_label(tmp_path, begun, sleeping_settings, numbered_pairs):
    pool = Pool(tmp_path / "pool.db")
    executor = LocalExecutor(1)

    def interrupt() -> None:
        worker_and_folder(begun)
        executor.shutdown(cancel_futures=True)

    thread = threading.Thread(target=interrupt)
    thread.start()
    labeller = Labeller(pool, SLEEPING, sleeping_settings, executor=executor)
    with pytest.raises(ExecutorBroken, match="shut down before the label was done"):
        labeller.run(numbered_pairs(2))
    thread.join()
    worker, folder = worker_and_folder(begun)
    assert has_ended(worker)
    assert not folder.exists()
    assert (len(pool), pool.n_set_aside) == (0, 0)


PARENT = """
import os, sys, threading, time
from pathlib import Path
from ase import Atoms
from qnep.dft import Limits, backend_settings
from qnep.dft.worker import Job, run_job

settings = backend_settings({backend!r}, options={{"begun": {begun!r}}})
job = Job(Atoms("Ar2", [[0, 0, 0], [0, 0, 3.0]]), {backend!r}, settings, Limits(), 3600.0)
threading.Thread(target=run_job, args=(job,), daemon=True).start()
while not Path({begun!r}).exists():
    time.sleep(0.05)
{last_words}
"""


@pytest.mark.parametrize("last_words", ["sys.exit()", "os._exit(0)"])
def test_a_worker_ends_with_its_parent(tmp_path, begun, last_words):
    """A parent that ends in order removes the folder before the worker hears of it."""
    script = PARENT.format(backend=SLEEPING, begun=str(begun), last_words=last_words)
    process = start(["-c", script], tmp_path)
    worker, folder = worker_and_folder(begun)
    assert process.wait(timeout=PATIENCE_S) == 0
    wait_for(lambda: has_ended(worker))
    assert not folder.exists()


def test_a_child_is_closed_twice_and_killed_once(monkeypatch):
    """After the first time its process number may be another's."""
    killed = []
    kill_group = os.killpg
    monkeypatch.setattr(
        os, "killpg", lambda group, sign: (killed.append(group), kill_group(group, sign))
    )
    child = _Child(n_threads=1)
    assert child.is_alive
    child.close()
    child.close()
    assert not child.is_alive
    assert killed == [child._process.pid]


def test_programs_of_a_dead_child_end_with_it(tmp_path, begun, numbered_pairs):
    """A code that crashes leaves nothing running that it had started."""
    settings = backend_settings("fakes:deserting", options={"begun": str(begun)})
    job = Job(numbered_pairs(1)[0], "fakes:deserting", settings, Limits(), 60.0)
    with LocalExecutor(1) as executor:
        outcome = executor.submit(run_job, job).result()
        assert outcome.reason == "the process died (killed by SIGKILL)"
        program, _ = worker_and_folder(begun)
        wait_for(lambda: has_ended(program))


def test_a_job_with_a_word_that_cannot_be_read_costs_no_process(numbered_pairs):
    """As of another program than the labeller, which looks before it asks."""
    good, wrong = numbered_pairs(2)
    wrong.info["kpts"] = "gamma"
    settings = backend_settings(RELIABLE)
    with LocalExecutor(1) as executor:
        outcomes = [
            executor.submit(run_job, Job(atoms, RELIABLE, settings, Limits(), 60.0)).result()
            for atoms in (wrong, good)
        ]
    assert outcomes[0].reason.startswith("ValueError: a k-point grid is written like 2x2x1")
    assert outcomes[1].label is not None


def test_a_job_that_cannot_be_read_costs_one_attempt(numbered_pairs):
    """The child says in the log why; nobody waits for the time limit."""

    class Unknown:
        """A class of this process only, by a name that the child cannot import."""

    Unknown.__module__, Unknown.__qualname__ = "no_such_module", "Unknown"
    sys.modules["no_such_module"] = type(sys)("no_such_module")
    sys.modules["no_such_module"].Unknown = Unknown
    try:
        frame = numbered_pairs(1)[0]
        frame.info["unknown"] = Unknown()
        job = Job(frame, RELIABLE, backend_settings(RELIABLE), Limits(), 3600.0)
        with LocalExecutor(1) as executor:
            outcome = executor.submit(run_job, job).result()
    finally:
        del sys.modules["no_such_module"]
    assert outcome.label is None
    assert "No module named 'no_such_module'" in outcome.log
