"""What a run keeps on disk: its state, written whole or not at all, and files that only grow."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qnep.files import take_lock, write_atomically

STATE_FILE = "state.json"
DECISIONS_FILE = "decisions.jsonl"
TRAJECTORY_FILE = "trajectory.extxyz"
LOCK_FILE = "run.lock"
FORMAT = 2
"""2: labels by their numbers in the pool; 1 had places in an order that others who wrote to it could change."""
READABLE = (1, FORMAT)
"""Of 1 everything can be shown, but a run not be resumed."""


class StateError(ValueError):
    """There is no state, it cannot be read, it belongs to another configuration, or it is in use."""


class RunLock:
    """The right to work in the folder of a run, which one learner has at a time; it ends with the process.

    Parameters
    ----------
    folder : of the run; made where it is absent.

    Attributes
    ----------
    release : gives the right back; harmless twice, and called when the lock is forgotten.

    Raises
    ------
    StateError : another process works in the folder.
    OSError : the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = take_lock(folder / LOCK_FILE)
        if descriptor is None:
            raise StateError(
                f"another process works in {folder} (or a learner of this one, until its close()): "
                "wait for its end or stop it"
            )
        self.release = weakref.finalize(self, os.close, descriptor)

    @property
    def is_held(self) -> bool:
        """Whether it has not been released."""
        return self.release.alive


@dataclass
class State:
    """A run after its last event.

    Attributes
    ----------
    digest : of the configuration.
    policy : what the policy remembers, plain types.
    snapshot : of the dynamics, as `Snapshot.as_dict`; None before the first step.
    training : numbers in the pool of the frames that are trained on.
    n_trained : how many of them the models have seen.
    models : model files, relative to the folder of the run.
    first_model : whose features observables of the whole run are measured in.
    generation : number of trainings done.
    thresholds, memories : of the gates, by name.
    exploration : the stretch of LAMMPS whose frames are being looked at; None between two and without LAMMPS.
    counts : what was done so far, by name.
    seconds : wall time spent on what, by name.
    sizes : bytes of the growing files that belong to this state.
    is_done : the run has reached its end.
    format : of the file.
    """

    digest: str
    policy: dict[str, Any] = field(default_factory=dict)
    snapshot: dict[str, Any] | None = None
    training: list[int] = field(default_factory=list)
    n_trained: int = 0
    models: list[str] = field(default_factory=list)
    first_model: str = ""
    generation: int = 0
    thresholds: dict[str, Any] = field(default_factory=dict)
    memories: dict[str, Any] = field(default_factory=dict)
    exploration: dict[str, Any] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    is_done: bool = False
    format: int = FORMAT

    def save(self, folder: Path) -> None:
        """Replace the state file in one move, so that a kill leaves the old one or the new one."""
        # asdict would copy every label's number.
        write_atomically(folder / STATE_FILE, json.dumps(vars(self)))

    @classmethod
    def load(cls, folder: Path) -> State:
        """Read the state of a run.

        Raises
        ------
        StateError : none in this folder, or a file that is damaged or of another version of qnep.
        """
        path = folder / STATE_FILE
        if not path.is_file():
            raise StateError(f"{path}: there is no run to resume in this folder")
        try:
            values = json.loads(path.read_text())
            if values["format"] not in READABLE:
                raise StateError(f"{path} was written by another version of qnep")
            return cls(**values)
        except (KeyError, TypeError, AttributeError, ValueError) as failure:
            if isinstance(failure, StateError):
                raise
            raise StateError(
                f"{path} cannot be read ({type(failure).__name__}: {failure}); pool and models beside it are whole"
            ) from failure


class GrowingFile:
    """A text file that is only appended to and that can be cut back to what a state knows of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._has_new = False

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def append(self, text: str) -> None:
        """Add text."""
        with self.path.open("a") as file:
            file.write(text)
        self._has_new = True

    def see_on_disk(self) -> None:
        """Return when all that was added would survive a power failure."""
        if self._has_new:
            with self.path.open("a") as file:
                os.fsync(file.fileno())
        self._has_new = False

    def cut(self, size: int) -> None:
        """Drop what was written after the file had `size` bytes.

        Raises
        ------
        StateError : the file is shorter: it is not the one of this run.
        """
        if self.size < size:
            raise StateError(
                f"{self.path} has {self.size} bytes, the state of the run knows {size}"
            )
        if self.size > size:
            os.truncate(self.path, size)


def read_decisions(folder: Path) -> Iterator[dict[str, Any]]:
    """Return the decisions of a run in their order.

    Raises
    ------
    StateError : no decisions in this folder, or a line that is damaged. A last line that was cut off is left out.
    """
    path = folder / DECISIONS_FILE
    if not path.is_file():
        raise StateError(f"{path}: no run has decided anything in this folder")
    lines = path.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line.endswith("\n"):
            return
        try:
            yield json.loads(line)
        except ValueError as failure:
            raise StateError(f"{path}, line {number}: {failure}") from failure
