"""The reference: labels from any DFT code, each kept on disk before it is used, none calculated twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.geometry import find_mic

from qnep.dft.label import Label, Limits, labelled_atoms
from qnep.dft.labeller import Labeller
from qnep.dft.pool import SAME_GEOMETRY, Pool, PoolError
from qnep.dft.settings import Settings
from qnep.dft.worker import LocalExecutor


class ReferenceFailed(RuntimeError):
    """The reference gave no label that can be used."""


@dataclass(frozen=True)
class Labelled:
    """A frame with its label: its place in the pool, and whether it had to be calculated."""

    index: int
    frame: Atoms
    is_new: bool


class _OrderedPool(Pool):
    """A pool that also holds its accepted frames in memory, in the order of their labelling."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.in_order = list(self.frames())

    def add_label(self, atoms: Atoms, label: Label) -> bool:
        is_new = super().add_label(atoms, label)
        if is_new:
            frame = labelled_atoms(atoms, label)
            frame.info = {
                name: str(atoms.info[name])
                for name in ("config_type", "source", "trajectory")
                if name in atoms.info
            }
            frame.info["level"] = label.level
            self.in_order.append(frame)
        return is_new


class Reference:
    """Labels frames one by one in a process of its own that may crash or hang, into a pool on disk.

    Parameters
    ----------
    path : of the pool; labels that are there already are used.
    backend : name, as `qnep.dft.get_backend` takes it.
    settings : level of theory; the preset of the backend where it is None.
    limits : when a label is rejected.
    time_limit_s : wall time of one label.
    n_threads : of one label.
    elements : that the model knows.

    Raises
    ------
    PoolError : the pool holds another level of theory, or elements that the model does not know.
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
        self._pool = _OrderedPool(path)
        # One thread for the whole run keeps one child process, and with it the orbitals of the last label.
        self._executor = LocalExecutor(1)
        self._labeller = Labeller(
            self._pool,
            backend,
            settings,
            executor=self._executor,
            limits=limits,
            time_limit_s=time_limit_s,
            n_threads=n_threads,
        )
        self.n_calls = 0
        self.wall_s = 0.0
        self._check(elements)

    @property
    def frames(self) -> list[Atoms]:
        """All labelled frames, oldest first."""
        return self._pool.in_order

    def label(self, atoms: Atoms, config_type: str, trajectory: str) -> Labelled:
        """Return the frame with its label, from the pool if it is there.

        Raises
        ------
        ReferenceFailed : no label after all attempts; the frame is set aside in the pool.
        PoolError : the pool cannot be written, as on a full disk.
        """
        frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.info = {"config_type": config_type, "source": "qnep learn", "trajectory": trajectory}
        start, n_before = time.perf_counter(), len(self.frames)
        summary = self._labeller.run([frame])
        self.wall_s += time.perf_counter() - start
        if len(self.frames) > n_before:
            self.n_calls += 1
            return Labelled(n_before, self.frames[-1], True)
        if summary.n_failed:
            raise ReferenceFailed(summary.reasons[-1])
        index = self._find(frame)
        if index is None:
            raise ReferenceFailed("this frame was set aside before: the reference failed for it")
        return Labelled(index, self.frames[index], False)

    def forget_failures(self) -> int:
        """Let frames that were set aside be tried again; returns how many."""
        with self._pool:
            return self._pool.forget_failures()

    def close(self) -> None:
        """End the child process's thread; the pool stays."""
        self._executor.shutdown(cancel_futures=True)

    def _find(self, atoms: Atoms) -> int | None:
        for index in reversed(range(len(self.frames))):
            if _is_same(atoms, self.frames[index]):
                return index
        return None

    def _check(self, elements: Sequence[str]) -> None:
        for number, frame in enumerate(self.frames):
            unknown = sorted(set(frame.get_chemical_symbols()) - set(elements))
            if unknown:
                raise PoolError(
                    f"{self._pool.path}, label {number}: the model knows {' '.join(elements)}, "
                    f"the pool holds {' '.join(unknown)}"
                )
            if frame.info["level"] != self._labeller.level:
                raise PoolError(
                    f"{self._pool.path}, label {number}: made with {frame.info['level']!r}, "
                    f"this run labels with {self._labeller.level!r}; give it a pool of its own"
                )


def _is_same(atoms: Atoms, other: Atoms) -> bool:
    if not np.array_equal(atoms.numbers, other.numbers):
        return False
    if np.abs(atoms.cell.array - other.cell.array).max() > SAME_GEOMETRY:
        return False
    offsets = atoms.positions - other.positions
    return bool(find_mic(offsets, atoms.cell, atoms.pbc)[1].max() < SAME_GEOMETRY)


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
