"""The pool of labels on disk: an ASE database that survives being killed and never holds a frame twice."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sqlite3
import tempfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from ase import Atoms
from ase.db import connect

from qnep.dft.kpoints import parse_grid
from qnep.dft.label import Label, charge_info, labelled_atoms
from qnep.files import check_creatable, take_lock
from qnep.io import write_frames
from qnep.total_charge import KEYS as CHARGE_KEYS

logger = logging.getLogger(__name__)

SAME_GEOMETRY = (
    1e-3  # Å; far below any force change worth a label, far above what text files round away
)


class PoolError(OSError):
    """The pool cannot be read or written; the text says what to do."""


@dataclass(frozen=True)
class Failure:
    """A frame that was set aside."""

    reason: str
    log: str
    attempts: int


class Pool:
    """Labelled frames and frames set aside, in one SQLite file that `ase db` and `ase gui` open too.

    One process writes at a time: use it as a context manager, which may be nested and first takes up what other
    processes have written. Any number may read meanwhile.

    Parameters
    ----------
    path : of the file; made where it is absent.

    Raises
    ------
    PoolError : not a pool, or in use by another writer.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: int | None = None
        self._n_holders = 0  # nested `with` blocks
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self._make_file()
        self._database = self._connect(self.path)
        self._load_index()

    def __enter__(self) -> Pool:
        if self._lock is None:
            self._lock = take_lock(Path(f"{self.path}.lock"))
            if self._lock is None:
                raise PoolError(f"another run is writing {self.path}: wait for it or stop it")
            try:
                if self._stamp != self._stamp_on_disk():
                    self._load_index()
            except BaseException:
                self._release_lock()
                raise
        self._n_holders += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._n_holders -= 1
        if self._n_holders == 0:
            self._release_lock()

    def _release_lock(self) -> None:
        assert self._lock is not None
        os.close(self._lock)
        self._lock = None

    def __len__(self) -> int:
        """Number of accepted labels."""
        return self._known.n_entries

    @property
    def n_set_aside(self) -> int:
        """Number of frames without a label after all attempts."""
        return self._set_aside.n_entries

    def has_label(self, atoms: Atoms, level: str, kpts: str) -> bool:
        """Whether a frame is labelled at a level of theory; equal to within 1e-3 Å, whatever the unit cell image."""
        return self.find_label(atoms, level, kpts) is not None

    def find_label(self, atoms: Atoms, level: str, kpts: str) -> int | None:
        """Return the number in the file of the label that a frame has, which it keeps for ever, or None."""
        return self._known.find(atoms, level, kpts)

    def is_set_aside(self, atoms: Atoms, level: str, kpts: str) -> bool:
        """Whether labelling a frame failed before."""
        return self._set_aside.find(atoms, level, kpts) is not None

    def add_label(self, atoms: Atoms, label: Label) -> bool:
        """Store an accepted label on disk; False, and nothing is stored, for a frame that is there already.

        `config_type`, `source`, `trajectory`, charge and `n_unpaired` of `atoms.info` are kept.
        """
        if self.has_label(atoms, label.level, label.kpts):
            return False
        data = {
            "details": label.details,
            "info": {
                name: str(atoms.info[name])
                for name in ("config_type", "source", "trajectory", *CHARGE_KEYS, "n_unpaired")
                if name in atoms.info
            },
        }
        frame = labelled_atoms(atoms, label)
        keys = {"status": "accepted", "level": label.level, "kpts": label.kpts}
        self._known.add(atoms, label.level, label.kpts, self._write(frame, keys, data))
        return True

    def add_failure(self, atoms: Atoms, level: str, kpts: str, failure: Failure) -> None:
        """Store a frame that could not be labelled, with the end of the log."""
        data = {
            "reason": failure.reason,
            "log": failure.log,
            "attempts": failure.attempts,
            "info": {name: str(value) for name, value in atoms.info.items()},
        }
        frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        keys = {"status": "failed", "level": level, "kpts": kpts}
        self._set_aside.add(atoms, level, kpts, self._write(frame, keys, data))

    def forget_failures(self) -> int:
        """Remove the frames set aside, so that the next run tries them again; returns how many there were."""
        with self._writing():
            ids = [row.id for row in self._select(status="failed")]
            self._database.delete(ids)
        self._set_aside = GeometryIndex()
        self._stamp = self._stamp_on_disk()
        return len(ids)

    def frame(self, number: int) -> Atoms:
        """Return the accepted frame with a number in the file, as `frames` does.

        Raises
        ------
        PoolError : there is no label with this number.
        """
        row = next(self._database.select(id=number, status="accepted"), None)
        if row is None:
            raise PoolError(f"{self.path} has no label number {number}: is it another pool?")
        return _frame_of_row(row)

    def numbered_frames(self) -> Iterator[tuple[int, Atoms]]:
        """Return all accepted frames with their numbers in the file, oldest first, of all levels and grids."""
        for row in self._select(status="accepted"):
            yield row.id, _frame_of_row(row)

    def frames(self) -> Iterator[Atoms]:
        """Return the accepted frames, oldest first, of all levels of theory.

        Of a geometry with several grids at one level it is the one with most k-points. Each carries its label in a
        calculator, and in `info`: config_type, source, trajectory, charge (e, where it is not zero), level,
        kpts, virial (eV, nine numbers, -stress x volume), net_force_removed, cpu_s.
        """
        geometries = GeometryIndex()
        best: dict[int, Any] = {}  # number of the first row with a geometry -> its best row
        for row in self._select(status="accepted"):
            atoms = row.toatoms()
            first = geometries.find(atoms, row.level)
            if first is None:
                geometries.add(atoms, row.level, "", row.id)
                best[row.id] = row
            elif _n_kpoints(row.kpts) > _n_kpoints(best[first].kpts):
                best[first] = row
        for row in sorted(best.values(), key=lambda row: row.id):
            yield _frame_of_row(row)

    def failures(self) -> Iterator[tuple[Atoms, Failure]]:
        """Return the frames set aside and why."""
        for row in self._select(status="failed"):
            yield (
                row.toatoms(),
                Failure(row.data["reason"], row.data["log"], row.data["attempts"]),
            )

    def cpu_hours(self) -> float:
        """CPU time spent on the accepted labels."""
        rows = self._select(status="accepted")
        return sum(row.data["details"].get("cpu_s", 0.0) for row in rows) / 3600

    def export(self, path: str | Path) -> int:
        """Write the accepted frames as extended XYZ (compressed where the name ends in .gz); returns how many.

        The file is complete at any moment. More than one level of theory gives a warning.

        Raises
        ------
        ValueError : the pool holds no labels, or nothing can be written under this name; nothing is written.
        """
        return write_frames(path, self._frames_to_export())

    def export_split(self, folder: str | Path, test_share: float) -> tuple[int, int]:
        """Write train.extxyz.gz and test.extxyz.gz, whole trajectories on one side; returns the numbers of frames.

        The side follows from the trajectory's name alone, so it never changes while the pool grows. Frames without a
        trajectory go by their config_type, those without either are one trajectory. More than one level of theory gives
        a warning.

        Raises
        ------
        ValueError : a share outside 0 to 1, a folder that is none, no labels in the pool, or none for one of the two
            files; nothing is written.
        """
        check_test_share(test_share)
        train_file, test_file = split_files(Path(folder))
        sides: dict[bool, list[Atoms]] = {False: [], True: []}
        positions = set()
        for atoms in self._frames_to_export():
            position = _position(atoms)
            positions.add(position)
            sides[position < test_share].append(atoms)
        if not (sides[False] and sides[True]):
            empty = test_file if sides[False] else train_file
            raise ValueError(_why_empty(empty.name, sorted(positions), test_share))
        Path(folder).mkdir(parents=True, exist_ok=True)
        return write_frames(train_file, sides[False]), write_frames(test_file, sides[True])

    def _frames_to_export(self) -> list[Atoms]:
        frames = list(self.frames())
        if not frames:
            raise ValueError(f"{self.path} holds no labels")
        levels = Counter(atoms.info["level"] for atoms in frames)
        if len(levels) > 1:
            counts = ", ".join(f"{count} at {level!r}" for level, count in levels.items())
            logger.warning("labels of several levels of theory are written: %s", counts)
        return frames

    @staticmethod
    def _connect(path: Path) -> Any:
        # The lock file of ase.db would stay behind when a run is killed and block the next one for ever.
        return connect(path, type="db", use_lock_file=False)

    def _make_file(self) -> None:
        """Make the tables beside and put the file in place whole: ase.db makes them one by one, seen by readers."""
        with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=".pool-") as folder:
            new = Path(folder, "new.db")
            try:
                self._connect(new).count()
            except sqlite3.DatabaseError as failure:
                raise PoolError(f"cannot write {self.path}: {failure}") from failure
            with contextlib.suppress(FileExistsError):  # another process was first
                os.link(new, self.path)

    def _load_index(self) -> None:
        """Read what is on disk; a row that another process adds meanwhile is seen when the lock is taken."""
        known, set_aside = GeometryIndex(), GeometryIndex()
        try:
            stamp = self._stamp_on_disk()
            for row in self._database.select():
                index = known if row.status == "accepted" else set_aside
                index.add(row.toatoms(), row.level, row.kpts, row.id)
        except (sqlite3.DatabaseError, AttributeError) as failure:
            raise PoolError(f"{self.path} is not a pool of labels: {failure}") from failure
        self._known, self._set_aside, self._stamp = known, set_aside, stamp

    def _stamp_on_disk(self) -> tuple[int, int]:
        """Number of rows and the newest id, never used twice: equal as long as nobody has added or removed a row."""
        newest = next(self._database.select(sort="-id", limit=1), None)
        return self._database.count(), newest.id if newest else 0

    def _select(self, status: str) -> Iterator[Any]:
        return self._database.select(status=status, sort="id")

    def _write(self, atoms: Atoms, keys: dict[str, str], data: dict[str, Any]) -> int:
        """Write a row; returns its number."""
        with self._writing():
            row_id = self._database.write(atoms, key_value_pairs=keys, data=data)
        self._stamp = (self._stamp[0] + 1, row_id)
        return row_id

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Raise PoolError where the lock is not held, and for what the database or the disk refuses."""
        if self._lock is None:
            raise PoolError(f"open {self.path} with `with pool:` before writing")
        try:
            yield
        except (sqlite3.DatabaseError, OSError) as failure:
            raise PoolError(
                f"cannot write {self.path}: {failure}. The labels in it are safe; make room and run again"
            ) from failure


_Group = tuple[str, str, bytes, bytes]  # level, k-points, elements in order, periodic directions


class GeometryIndex:
    """Finds a structure again by element order, periodic directions and positions, of one level and grid."""

    def __init__(self) -> None:
        self.n_entries = 0
        self._entries: dict[_Group, list[tuple[Atoms, int]]] = defaultdict(list)
        self._first_atoms: dict[_Group, array[float]] = defaultdict(lambda: array("d"))

    def add(self, atoms: Atoms, level: str, kpts: str = "", number: int = 0) -> None:
        """Add a structure under a number of the caller."""
        group = self._group(atoms, level, kpts)
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        self._entries[group].append((bare, number))
        self._first_atoms[group].extend(bare.positions[0])
        self.n_entries += 1

    def find(self, atoms: Atoms, level: str, kpts: str = "") -> int | None:
        """Return the number of the first structure that counts as the same, or None."""
        group = self._group(atoms, level, kpts)
        if group not in self._entries:
            return None
        # One vectorised comparison of first atoms leaves next to nothing for the full one.
        first_atoms = np.frombuffer(self._first_atoms[group]).reshape(-1, 3)
        offsets = first_atoms - atoms.positions[0]  # [n_structures, 3]
        is_close = np.abs(_nearest_images(offsets, atoms)).max(axis=1) < SAME_GEOMETRY
        entries = (self._entries[group][k] for k in np.flatnonzero(is_close))
        return next((number for other, number in entries if is_same_geometry(atoms, other)), None)

    @staticmethod
    def _group(atoms: Atoms, level: str, kpts: str) -> _Group:
        return (level, kpts, atoms.numbers.tobytes(), atoms.pbc.tobytes())


def is_same_geometry(atoms: Atoms, other: Atoms) -> bool:
    """Whether two structures count as one: same elements in order and periodic directions, cell and positions equal.

    Equal is to within 1e-3 Å; positions may differ by whole cell vectors along periodic directions of a cell with three
    vectors.
    """
    if not np.array_equal(atoms.numbers, other.numbers):
        return False
    if not np.array_equal(atoms.pbc, other.pbc):
        return False
    if np.abs(atoms.cell.array - other.cell.array).max() > SAME_GEOMETRY:
        return False
    difference = _nearest_images(atoms.positions - other.positions, atoms)
    return bool(np.abs(difference).max() < SAME_GEOMETRY)


def _nearest_images(vectors: np.ndarray, atoms: Atoms) -> np.ndarray:
    """Return vectors shifted by whole cell vectors towards zero; exact where the result is far below the cell."""
    if atoms.cell.rank < 3:
        return vectors
    fractional = np.linalg.solve(atoms.cell.array.T, vectors.T).T
    return (fractional - np.round(fractional) * atoms.pbc) @ atoms.cell.array


def check_test_share(test_share: float) -> None:
    """Raise ValueError unless a share is between 0 and 1."""
    if not 0 < test_share < 1:
        raise ValueError(f"the share of test frames must be between 0 and 1, got {test_share:g}")


def split_files(folder: Path) -> tuple[Path, Path]:
    """Return the two files of a split, for training and test.

    Raises
    ------
    ValueError : they cannot be written there; a folder that is not there yet can be made.
    """
    files = folder / "train.extxyz.gz", folder / "test.extxyz.gz"
    for path in files:
        check_creatable(path)
    return files


def _position(atoms: Atoms) -> float:
    """Return a number from 0 to 1 that follows from the name of the trajectory of a frame."""
    name = str(atoms.info.get("trajectory", atoms.info.get("config_type", "")))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32


def _why_empty(file: str, positions: list[float], test_share: float) -> str:
    """Say why one side of a split would be empty, and what helps."""
    n_names = len(positions)
    text = (
        f"nothing is written, since {file} would be empty: the name of a trajectory (trajectory= of a frame, or else "
        f"its config_type=) decides on which side all its frames are, and at a test share of {test_share:g} "
    )
    if n_names == 1:
        return (
            f"{text}the only one is on the other side; export one file, of which qnep train can hold out a part "
            "(validation_fraction)"
        )
    ends = positions[-2:] if test_share > positions[-1] else positions[:2]
    return (
        f"{text}all {n_names} are on the other side; a share of {sum(ends) / 2:.4g} leaves one here"
    )


def _n_kpoints(kpts: str) -> int:
    return int(np.prod(parse_grid(kpts)))


def _frame_of_row(row: Any) -> Atoms:
    atoms = row.toatoms()
    details, info = row.data["details"], row.data["info"]
    atoms.info = {
        **{name: value for name, value in info.items() if name not in CHARGE_KEYS},
        **charge_info(details, info),
        "level": row.level,
        "kpts": row.kpts,
        "cpu_s": details.get("cpu_s", 0.0),
        "net_force_removed": np.array(details.get("net_force_removed", [0.0] * 3)),
    }
    # One energy per frame in the exported file; the other one stays in the pool.
    atoms.calc.results.pop("free_energy", None)
    if "stress" in atoms.calc.results:
        virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
        atoms.info["virial"] = virial.ravel()
    return atoms
