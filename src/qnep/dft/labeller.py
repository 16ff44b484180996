"""Labels many frames: over any executor, with retries, into a pool, nothing twice and nothing lost."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field, replace
from numbers import Integral

from ase import Atoms
from tqdm import tqdm

from qnep.dft.backends import BackendMissing, backend_settings, backend_version, require_backend
from qnep.dft.kpoints import format_grid
from qnep.dft.label import Limits, settings_for
from qnep.dft.pool import Failure, GeometryIndex, Pool
from qnep.dft.reference_calculator import chosen_grid
from qnep.dft.settings import Settings
from qnep.dft.worker import Job, LocalExecutor, Outcome, run_job

logger = logging.getLogger(__name__)


class ExecutorBroken(OSError):
    """The executor lost its workers; labels that were done are in the pool."""


@dataclass
class Summary:
    """What one run did.

    `n_skipped` counts frames that are in the pool or a second time in the input, `n_set_aside_before` those that an
    earlier run could not label.
    """

    n_labelled: int = 0
    n_skipped: int = 0
    n_failed: int = 0
    n_set_aside_before: int = 0
    n_retries: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    reasons: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        before = f" and {self.n_set_aside_before} before" if self.n_set_aside_before else ""
        return (
            f"{self.n_labelled} labelled, {self.n_skipped} already in the pool, {self.n_failed} set aside{before}, "
            f"{self.n_retries} retries; {self.wall_s / 60:.1f} min, {self.cpu_s / 3600:.2f} CPU h"
        )


@dataclass
class _Task:
    """A frame on its way to a label."""

    atoms: Atoms
    level: str
    kpts: str
    attempt: int = 0


class Labeller:
    """Labels frames with a backend and stores the results.

    Parameters
    ----------
    pool : where labels go; opened for writing during `run`.
    backend : name, as `get_backend` takes it.
    settings : level of theory; the preset of the backend where it is None.
    executor : any `concurrent.futures.Executor`, as a process pool or Parsl's `ParslPoolExecutor`; a thread per job on
        this machine where it is None. Each label runs in a process of its own in any case.
    n_jobs : labels at the same time. With an executor of your own: at least its number of workers.
    limits : when a label is rejected.
    time_limit_s : wall time of one label; 2e6 s (23 days) and more, also infinity: no limit.
    n_threads : of one label.
    show_progress : draw a bar with the remaining time and the CPU hours so far.

    Attributes
    ----------
    level : name of the level of theory; a frame that asks for its own charge or spin gets a level of its own.
    """

    def __init__(
        self,
        pool: Pool,
        backend: str,
        settings: Settings | None = None,
        executor: Executor | None = None,
        n_jobs: int = 1,
        limits: Limits | None = None,
        time_limit_s: float = 7200.0,
        n_threads: int = 1,
        show_progress: bool = False,
    ) -> None:
        for name, count in (("n_jobs", n_jobs), ("n_threads", n_threads)):
            if not (isinstance(count, Integral) and count >= 1):
                raise ValueError(f"{name} must be a whole number from 1, got {count}")
        if not time_limit_s > 0:
            raise ValueError(f"the time limit must be positive, got {time_limit_s:g} s")
        self.pool = pool
        self.backend = backend
        self.settings = settings or backend_settings(backend)
        self._said: set[str] = set()
        self._say_once(self.settings.why_no_stress)  # now, and not when hours have gone into labels
        self._stateless_level = level_name(backend, self.settings)  # the same for all frames
        self.level = level_of_state(self._stateless_level, self.settings)
        self.limits = limits or Limits()
        self.time_limit_s = time_limit_s
        self.n_threads = n_threads
        self.n_jobs = n_jobs
        self.show_progress = show_progress
        self._executor = executor

    def run(self, frames: Iterable[Atoms]) -> Summary:
        """Label the frames that are not in the pool; in their order, best first.

        Raises
        ------
        ValueError : a frame asks for what cannot be read, as two different charges; then nothing is labelled.
        BackendMissing : the DFT code is not installed where labels are made. No frame is set aside for that.
        PoolError : the pool cannot be written, as on a full disk.
        ExecutorBroken : the executor itself failed. In these two cases the pool holds all labels that were done; run
            again.
        """
        summary, start = Summary(), time.perf_counter()
        with self.pool:
            tasks = deque(self._new_tasks(frames, summary))
            if tasks and self._executor is None:  # on a cluster the code may be on its nodes only
                require_backend(self.backend)
            executor = self._executor or LocalExecutor(self.n_jobs)
            try:
                self._work_off(tasks, executor, summary)
            finally:
                if self._executor is None:
                    executor.shutdown(cancel_futures=True)
                summary.wall_s = time.perf_counter() - start
        return summary

    def _new_tasks(self, frames: Iterable[Atoms], summary: Summary) -> Iterator[_Task]:
        """Return what is neither in the pool nor set aside, each geometry once."""
        queued = GeometryIndex()
        for number, atoms in enumerate(frames):
            try:
                settings = settings_for(atoms, self.settings)
            except ValueError as failure:
                raise ValueError(f"frame {number}: {failure}") from failure
            level = level_of_state(self._stateless_level, settings)
            kpts = format_grid(chosen_grid(atoms, settings))
            if self.pool.is_set_aside(atoms, level, kpts):
                summary.n_set_aside_before += 1
            elif (
                self.pool.has_label(atoms, level, kpts)
                or queued.find(atoms, level, kpts) is not None
            ):
                summary.n_skipped += 1
            else:
                queued.add(atoms, level, kpts)
                yield _Task(atoms, level, kpts)

    def _work_off(self, tasks: deque[_Task], executor: Executor, summary: Summary) -> None:
        running: dict[Future[Outcome], _Task] = {}
        with tqdm(total=len(tasks), disable=not self.show_progress, unit="label") as bar:
            while tasks or running:
                while tasks and len(running) < self.n_jobs:
                    task = tasks.popleft()
                    running[executor.submit(run_job, self._job(task))] = task
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    task = running.pop(future)
                    if self._record(task, _result(future), tasks, summary):
                        bar.update()
                        bar.set_postfix_str(
                            f"{summary.cpu_s / 3600:.2f} CPU h, {summary.n_failed} failed"
                        )

    def _record(self, task: _Task, outcome: Outcome, tasks: deque[_Task], summary: Summary) -> bool:
        """Store an outcome or queue the next attempt; returns whether the frame is done with."""
        if outcome.label is not None:
            label = outcome.label
            label.level = task.level
            label.details["attempts"] = task.attempt + 1
            is_new = self.pool.add_label(task.atoms, label)
            summary.n_labelled += is_new
            summary.n_skipped += not is_new
            summary.cpu_s += label.details["cpu_s"]
            for remark in label.details.get("remarks", ()):
                self._say_once(remark)
            return True
        if outcome.is_backend_missing:
            raise BackendMissing(outcome.reason)
        logger.warning("attempt %d at a label failed: %s", task.attempt + 1, outcome.reason)
        if task.attempt < len(self.settings.retries) and not outcome.is_final:
            summary.n_retries += 1
            tasks.append(replace(task, attempt=task.attempt + 1))
            return False
        failure = Failure(outcome.reason, outcome.log, task.attempt + 1)
        self.pool.add_failure(task.atoms, task.level, task.kpts, failure)
        summary.n_failed += 1
        summary.reasons.append(outcome.reason)
        return True

    def _say_once(self, remark: str) -> None:
        if remark and remark not in self._said:
            self._said.add(remark)
            logger.warning("labels: %s", remark)

    def _job(self, task: _Task) -> Job:
        return Job(
            atoms=task.atoms,
            backend=self.backend,
            settings=self.settings.for_attempt(task.attempt),
            limits=self.limits,
            time_limit_s=self.time_limit_s,
            n_threads=self.n_threads,
        )


def level_name(backend: str, settings: Settings) -> str:
    """Return the level of theory with the code and its version, as "PBE-D3BJ PW500 GPAW 26.7".

    Settings that differ from the preset of the backend add a digest, so that labels of both are told apart. Charge and
    spin are left to `level_of_state`.
    """
    preset = backend_settings(backend)
    name = settings.level if settings.level == backend else f"{settings.level} {backend.upper()}"
    version = ".".join(backend_version(backend).split(".")[:2])
    parts = [name, version]
    if settings.digest() != preset.digest():
        parts.append(f"#{settings.digest()}")
    return " ".join(part for part in parts if part)


def level_of_state(level: str, settings: Settings) -> str:
    """Return a level with the charge (e) and the number of unpaired electrons of settings, as "... q+1 u1".

    Neutral without spin adds nothing.
    """
    charge = f" q{settings.total_charge:+g}" if settings.total_charge else ""
    spin = f" u{settings.n_unpaired}" if settings.n_unpaired is not None else ""
    return level + charge + spin


def _result(future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except Exception as failure:
        raise ExecutorBroken(
            f"the executor failed with {type(failure).__name__}: {failure}. Labels that were done are in the pool; "
            "run again to continue"
        ) from failure
