"""The reference: labels from any DFT code, each kept on disk before it is used, none calculated twice."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from qnep.dft.kpoints import format_grid
from qnep.dft.label import Limits
from qnep.dft.labeller import Labeller
from qnep.dft.pool import GeometryIndex, Pool, PoolError
from qnep.dft.reference_calculator import chosen_grid
from qnep.dft.settings import Settings
from qnep.dft.worker import LocalExecutor, Outcome

logger = logging.getLogger(__name__)


class ReferenceFailed(RuntimeError):
    """The reference gave no label that can be used."""


class FrameRefused(ReferenceFailed):
    """It is the frame's own doing: another attempt would give no label either."""


class FrameNotConverged(FrameRefused):
    """The code says that the density of the frame did not converge, in all attempts."""


UNCONVERGED_IN_A_ROW = 5
"""Frames; where none between them was labelled, it is the reference and not the frames."""


@dataclass(frozen=True)
class Labelled:
    """A frame with its label: its number in the pool, and whether it had to be calculated."""

    number: int
    frame: Atoms
    is_new: bool


class Reference:
    """Labels frames one by one in a process of its own that may crash or hang, into a pool on disk.

    Nobody else can write to the pool, and the process lives, until `close` or the end of the program.

    Parameters
    ----------
    path : of the pool; labels that are there already are used.
    backend : name, as `qnep.dft.get_backend` takes it.
    settings : level of theory; the preset of the backend where it is None.
    limits : when a label is rejected.
    time_limit_s : wall time of one label.
    n_threads : of one label.
    elements : that the model knows.

    Attributes
    ----------
    frames : number in the pool -> labelled frame, oldest first, with the k-points that the settings choose for it.

    Raises
    ------
    PoolError : the pool holds another level of theory, or elements that the model does not know, or another process
        writes to it.
    """

    def __init__(
        self,
        path: Path,
        backend: str,
        elements: Sequence[str],
        settings: Settings | None = None,
        limits: Limits | None = None,
        time_limit_s: float = 7200.0,
        n_threads: int = 1,
    ) -> None:
        self.n_calls = 0
        self.wall_s = 0.0
        self._unconverged = GeometryIndex()
        self._n_unconverged = 0  # since the last label that was calculated
        with ExitStack() as resources:
            self._pool = Pool(path)
            resources.enter_context(self._pool)
            # One thread for the whole run keeps one child process, and with it the orbitals of the last label.
            self._executor = executor = _RememberingExecutor(1)
            resources.callback(executor.shutdown, cancel_futures=True)
            self._labeller = Labeller(
                self._pool,
                backend,
                settings,
                executor=executor,
                limits=limits,
                time_limit_s=time_limit_s,
                n_threads=n_threads,
            )
            self.frames = self._read_frames(elements)
            # Also called for a reference that is forgotten, and at the end of a script that does not close it.
            self._release = weakref.finalize(self, resources.pop_all().close)

    @property
    def total_charge(self) -> float:
        """Charge of the cell, e, of all labels."""
        return self._labeller.settings.total_charge

    def label(self, atoms: Atoms, config_type: str, trajectory: str) -> Labelled:
        """Return the frame with its label, from the pool if it is there.

        Raises
        ------
        ReferenceFailed : no label after all attempts; the frame is set aside in the pool.
        FrameRefused : for a label beyond its limits, whatever is attempted, and for a frame that was set aside before;
            FrameNotConverged for one whose density does not converge. A code that converges nowhere any more is
            ReferenceFailed.
        PoolError : the pool cannot be written, as on a full disk.
        ValueError : the reference is closed.
        """
        self._check_open()
        frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.info = {"config_type": config_type, "source": "qnep learn", "trajectory": trajectory}
        start = time.perf_counter()
        summary = self._labeller.run([frame])
        self.wall_s += time.perf_counter() - start
        if summary.n_failed:
            raise self._failure(summary.reasons[-1], frame)
        number = self._pool.find_label(frame, self._labeller.level, self._grid(frame))
        if number is None:
            is_unconverged = self._unconverged.find(frame, self._labeller.level) is not None
            raise (FrameNotConverged if is_unconverged else FrameRefused)(
                "this frame was set aside before: the reference failed for it"
            )
        if summary.n_labelled:  # one from the pool says nothing about the reference
            self._n_unconverged = 0
        self.n_calls += summary.n_labelled
        return Labelled(number, self.frame(number), summary.n_labelled > 0)

    def frame(self, number: int) -> Atoms:
        """Return the labelled frame with a number in the pool, as it is there.

        Raises
        ------
        PoolError : there is no label with this number.
        """
        if number not in self.frames:
            self.frames[number] = self._pool.frame(number)
        return self.frames[number]

    def forget_failures(self) -> int:
        """Let frames that were set aside be tried again; returns how many."""
        self._check_open()
        return self._pool.forget_failures()

    def close(self) -> None:
        """End the labelling process and let others write to the pool; harmless twice."""
        self._release()

    def _failure(self, reason: str, frame: Atoms) -> ReferenceFailed:
        """Return what to raise for the latest frame, for which there is no label."""
        assert self._executor.latest is not None  # it has just failed
        outcome = self._executor.latest.result()
        if outcome.is_final:
            return FrameRefused(
                f"{reason} (force and net_force of [reference] may be changed for --resume)"
            )
        if not outcome.is_not_converged:
            return ReferenceFailed(reason)
        self._unconverged.add(frame, self._labeller.level)
        self._n_unconverged += 1
        if self._n_unconverged < UNCONVERGED_IN_A_ROW:
            return FrameNotConverged(reason)
        n_frames, self._n_unconverged = self._n_unconverged, 0
        return ReferenceFailed(
            f"the reference converged for none of {n_frames} frames in a row, so it may be the reference and not the "
            f"frames; the last one: {reason}"
        )

    def _check_open(self) -> None:
        if not self._release.alive:
            raise ValueError("this reference is closed, as after a run: make a new one")

    def _grid(self, atoms: Atoms) -> str:
        return format_grid(chosen_grid(atoms, self._labeller.settings))

    def _read_frames(self, elements: Sequence[str]) -> dict[int, Atoms]:
        """Return the labels of the pool that are like those of this reference.

        Others may share the pool: their grids for the same cell give other energies, so those labels are left out.
        """
        frames, n_others = {}, 0
        for number, frame in self._pool.numbered_frames():
            if frame.info["level"] != self._labeller.level:
                raise PoolError(
                    f"{self._pool.path}, label {number}: made with {frame.info['level']!r}, "
                    f"this run labels with {self._labeller.level!r}; give it a pool of its own"
                )
            if frame.info["kpts"] != self._grid(frame):
                n_others += 1
                continue
            unknown = sorted(set(frame.get_chemical_symbols()) - set(elements))
            if unknown:
                raise PoolError(
                    f"{self._pool.path}, label {number}: the model knows {' '.join(elements)}, "
                    f"the pool holds {' '.join(unknown)}"
                )
            frames[number] = frame
        if n_others:
            logger.warning(
                "%s: %d of %d labels are left out, with other k-points than this run takes for their cells",
                self._pool.path,
                n_others,
                n_others + len(frames),
            )
        return frames


class _RememberingExecutor(LocalExecutor):
    """Keeps the latest outcome, of which the summary of a labeller has the reason only."""

    latest: Future[Outcome] | None = None

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        self.latest = super().submit(function, *args, **options)
        return self.latest


class ReferenceDriver(Calculator):
    """ASE calculator that labels every structure it is asked about, so that no reference step is lost.

    Parameters
    ----------
    reference : that labels.

    Attributes
    ----------
    latest : what the last calculation gave.
    config_type, trajectory : written with the labels.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE's own form)

    def __init__(self, reference: Reference) -> None:
        super().__init__()
        self.reference = reference
        self.latest: Labelled | None = None
        self.config_type = "learn"
        self.trajectory = "learn"

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Fill `results`; called by ASE.

        Raises
        ------
        ReferenceFailed, PoolError : as `Reference.label`.
        """
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None  # ASE hands it over
        self.latest = self.reference.label(self.atoms, self.config_type, self.trajectory)
        frame = self.latest.frame
        self.results = {
            "energy": float(frame.get_potential_energy()),
            "forces": np.array(frame.get_forces()),
        }
