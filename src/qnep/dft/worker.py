"""Runs labels in a process of its own, so that a crash or a hang of a DFT code costs one label and not the run.

`run_job` is what an executor calls, on this machine or on a node of a cluster. It keeps one child process per thread,
`python -m qnep.dft.worker`, hands it the job and waits no longer than the job's limit.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from queue import Queue
from typing import Any

from ase import Atoms

from qnep.dft.backends import BackendMissing, backend_version, make_reference
from qnep.dft.blas import slow_blas
from qnep.dft.label import Label, Limits, RejectedLabel, accept, compute_label, settings_for
from qnep.dft.reference_calculator import NotConverged, ReferenceCalculator
from qnep.dft.settings import Settings

LOG_TAIL = 3000  # characters of a log that are kept
START_LIMIT_S = (
    600.0  # to start Python and import the package, also on a slow file system of a cluster
)
LONGEST_WAIT_S = 2e6  # 23 days; the system's poll counts milliseconds up to 2³¹
END_LIMIT_S = 10.0  # for a child that has closed its pipe to be gone
PROCESS_NAME = (
    "qnep-label-worker"  # in the child's arguments, so that it is found in lists of processes
)


@dataclass(frozen=True)
class Job:
    """One structure to label.

    Parameters
    ----------
    atoms, backend, settings, limits : what is calculated and when it is accepted.
    time_limit_s : wall time after which the child is killed; 2e6 s (23 days) and more, also infinity: never.
    n_threads : of the DFT code.
    """

    atoms: Atoms
    backend: str
    settings: Settings
    limits: Limits
    time_limit_s: float
    n_threads: int = 1


@dataclass(frozen=True)
class Outcome:
    """Either a label, or why there is none with the end of the log.

    Parameters
    ----------
    is_final : another attempt would fail too.
    is_not_converged : the code says that the density did not converge; another attempt, with safer settings, may.
    is_backend_missing : it says nothing about the structure, because the code is not there.
    """

    label: Label | None
    reason: str = ""
    log: str = ""
    is_final: bool = False
    is_not_converged: bool = False
    is_backend_missing: bool = False


def run_job(job: Job) -> Outcome:
    """Label one structure in the child process of this thread; never raises for what the DFT code does.

    Raises
    ------
    WorkerStopped : the `LocalExecutor` that this thread belongs to was shut down meanwhile.
    """
    child = getattr(_of_this_thread, "child", None)
    if child is None or not child.is_alive or child.n_threads != job.n_threads:
        if child is not None:
            child.close()
        child = _of_this_thread.child = _Child(job.n_threads)
        if (children := getattr(_of_this_thread, "children", None)) is not None:
            children.add(child)
    return child.run(job)


_of_this_thread = threading.local()


class WorkerStopped(RuntimeError):
    """A label was not finished because its executor was shut down; it says nothing about the structure."""


class LocalExecutor(ThreadPoolExecutor):
    """Threads on this machine whose children have ended when `shutdown` returns.

    Elsewhere a child ends with its parent process; here the parent, a notebook say, lives on. With `cancel_futures`
    the running labels are given up too, as `WorkerStopped`.
    """

    def __init__(self, n_jobs: int) -> None:
        self._children = _Children()
        super().__init__(
            n_jobs, initializer=setattr, initargs=(_of_this_thread, "children", self._children)
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            super().shutdown(wait=False, cancel_futures=True)
            self._children.stop()  # else a thread would wait for its label, hours maybe
        super().shutdown(wait=wait, cancel_futures=cancel_futures)
        self._children.stop()
        self._children.close()


class _Children:
    """The children of one executor."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[_Child] = []
        self._is_stopped = False

    def add(self, child: _Child) -> None:
        with self._lock:
            self._all.append(child)
            if self._is_stopped:  # its thread had just begun a job
                child.stop()

    def stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            for child in self._all:
                child.stop()

    def close(self) -> None:
        for child in self._all:
            child.close()


class _Child:
    """A process that labels one structure after another."""

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self._is_ready = False
        self._is_stopped = False
        self._reaping = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="qnep-label-")
        self._connection, theirs = Pipe()
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(n_threads),
            # So that a backend by import path is found there too.
            "PYTHONPATH": os.pathsep.join(str(Path(path).resolve()) for path in sys.path),
        }
        with Path(self._folder.name, "worker.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "qnep.dft.worker", str(theirs.fileno()), PROCESS_NAME],
                pass_fds=[theirs.fileno()],
                cwd=self._folder.name,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # so that programs started by the child die with it
            )
        theirs.close()

    @property
    def is_alive(self) -> bool:
        with self._reaping:
            if self._process.returncode is not None:
                return False
            # Not `poll`: a dead child is reaped by `_kill` only, so that until then its number cannot be another's.
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            with contextlib.suppress(ChildProcessError):  # where SIGCHLD is ignored
                return os.waitid(os.P_PID, self._process.pid, options) is None
            return False

    def run(self, job: Job) -> Outcome:
        try:
            self._wait_until_ready()
            self._connection.send(job)
            has_limit = job.time_limit_s < LONGEST_WAIT_S
            if not self._connection.poll(job.time_limit_s if has_limit else None):
                outcome = Outcome(
                    None, f"no result after {job.time_limit_s:g} s, killed", self._log()
                )
                self.close()
                return outcome
            return pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            if self._is_stopped:
                raise WorkerStopped(
                    "the executor was shut down before the label was done"
                ) from None
            status = self._end()
            outcome = Outcome(None, f"the process died ({_describe_status(status)})", self._log())
            self.close()
            return outcome

    def _end(self) -> int:
        """Return the exit status of a child that closed its pipe or never came up."""
        deadline = time.monotonic() + END_LIMIT_S
        while self.is_alive and time.monotonic() < deadline:
            time.sleep(0.05)
        return self._kill()

    def _wait_until_ready(self) -> None:
        """Wait for the child's first word; the limit of a job does not include the start of Python."""
        if not self._is_ready:
            if not self._connection.poll(START_LIMIT_S):
                raise EOFError(f"no worker after {START_LIMIT_S:g} s")
            self._connection.recv_bytes()
            self._is_ready = True

    def stop(self) -> None:
        """Kill the child from another thread; the one that waits for its label gets `WorkerStopped`."""
        self._is_stopped = True
        self._kill()

    def close(self) -> None:
        """Kill the child with everything it started, and clean up; harmless the second time."""
        self._connection.close()
        self._kill()
        self._folder.cleanup()

    def _kill(self) -> int:
        """Kill the child with everything it started; returns its exit status, which is its own if it had ended."""
        with self._reaping:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):  # SIGCHLD again
                    os.killpg(self._process.pid, signal.SIGKILL)
            return self._process.wait()

    def _log(self) -> str:
        return read_log_tail(Path(self._folder.name))

    def __del__(self) -> None:
        if self._process.returncode is None:
            self.close()


def read_log_tail(folder: Path) -> str:
    """Return the ends of the files that a DFT code wrote into a folder."""
    tails = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if file.suffix.lower() in (".txt", ".log", ".out", ".pwo", "") and file.stat().st_size:
            with file.open("rb") as stream:
                stream.seek(max(0, file.stat().st_size - LOG_TAIL))
                tails.append(f"--- {file.name}\n{stream.read().decode(errors='replace')}")
    return "\n".join(tails)[-2 * LOG_TAIL :]


def _describe_status(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


# --- in the child --------------------------------------------------------------------------------------------------


def _serve(descriptor: int) -> None:
    """Label what comes through the pipe until its other end is closed."""
    connection = Connection(descriptor)
    jobs: Queue[Job] = Queue()
    threading.Thread(target=_listen, args=(connection, jobs), daemon=True).start()
    connection.send_bytes(b"ready")
    runner = _JobRunner()
    while True:
        connection.send_bytes(pickle.dumps(runner.run(jobs.get())))


def _listen(connection: Any, jobs: Queue[Job]) -> None:
    """Put jobs into the queue; when the parent is gone, end this process and all it started."""
    folder = Path.cwd()  # asked now: a parent that ends may remove the folder first
    try:
        while True:
            jobs.put(connection.recv())
    except (EOFError, OSError):
        shutil.rmtree(folder, ignore_errors=True)
    except Exception:
        traceback.print_exc()  # a job that cannot be read here; the parent finds this in the log
    finally:
        os.killpg(0, signal.SIGKILL)


class _JobRunner:
    """Labels jobs one after another; the calculator stays for as long as a job goes on where the last one ended."""

    def __init__(self) -> None:
        self._backend = ""
        self._calculator: ReferenceCalculator | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def run(self, job: Job) -> Outcome:
        continues = False
        try:
            settings = settings_for(job.atoms, job.settings)
            continues = self._continues(job, settings)
            label = self._accepted(job, settings, continues)
        except BackendMissing as missing:
            return Outcome(None, str(missing), is_backend_missing=True)
        except Exception as failure:  # a DFT code may raise anything; the run goes on
            log = read_log_tail(Path.cwd())
            self._clear()
            is_final = isinstance(failure, RejectedLabel) and failure.is_final
            if continues and not is_final:  # what stopped it may have come with the orbitals
                return self.run(job)
            is_not_converged = isinstance(failure, NotConverged)
            return Outcome(None, _describe(failure), log, is_final, is_not_converged)
        label.details["settings"] = settings.as_dict()
        label.details["backend"] = job.backend
        label.details["code_version"] = backend_version(job.backend)
        # Looked at now, when the code has loaded its libraries.
        remarks = (settings.why_no_stress, slow_blas())
        label.details["remarks"] = [remark for remark in remarks if remark]
        return Outcome(label)

    def _continues(self, job: Job, settings: Settings) -> bool:
        return (
            self._calculator is not None
            and job.backend == self._backend
            and settings == self._calculator.settings
            and self._calculator.continues(job.atoms)
        )

    def _accepted(self, job: Job, settings: Settings, continues: bool) -> Label:
        if self._calculator is None or not continues:
            self._clear()
            self._folder = tempfile.TemporaryDirectory(dir=Path.cwd())
            self._calculator = make_reference(job.backend, settings, self._folder.name)
            self._backend = job.backend
        label = compute_label(job.atoms, self._calculator)
        return accept(label, len(job.atoms), job.limits)

    def _clear(self) -> None:
        self._calculator = None
        if self._folder is not None:
            self._folder.cleanup()
        self._folder = None


def _describe(failure: Exception) -> str:
    return f"{type(failure).__name__}: {failure}"


if __name__ == "__main__":
    from qnep.dft import worker  # so that pickles name this module and not __main__

    worker._serve(int(sys.argv[1]))
