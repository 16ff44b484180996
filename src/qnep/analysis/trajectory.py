"""Open a trajectory of any supported format and stream its frames."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.geometry import find_mic

from qnep.analysis.binary_format import UniverseReader, open_universe
from qnep.analysis.errors import TrajectoryError, TruncatedFrame
from qnep.analysis.extxyz_format import ExtxyzReader
from qnep.analysis.frame import Frame
from qnep.analysis.lammps_dump_format import (
    FS_PER_TIME_UNIT,
    LammpsDumpReader,
    warn_of_unused_elements,
)
from qnep.analysis.text_source import TextSource

logger = logging.getLogger(__name__)

_XYZ_SUFFIXES = (".xyz", ".extxyz", ".exyz")
_DUMP_SUFFIXES = (".lammpstrj", ".dump", ".lammpsdump", ".atom")
_SAME_PLACE = 0.02  # Å, twice the digits of XTC, the coarsest format


class Trajectory:
    """Frames of a file, one at a time; memory holds no more than one.

    Iterate over it once; the file closes with the iteration, or with a ``with`` block. A frame that a
    restarted run wrote once more (same time, same positions as the one before) is left out.

    Attributes
    ----------
    truncated : what was cut off at the end of the file, or None.
    fraction_read : how far into the file (0 to 1).
    """

    def __init__(
        self,
        path: Path,
        reader: ExtxyzReader | LammpsDumpReader | UniverseReader,
        timestep_fs: float | None = None,
        frame_interval_fs: float | None = None,
        start: int = 0,
        stop: int | None = None,
        stride: int = 1,
        previous: Frame | None = None,
    ):
        self.path = path
        self.truncated: str | None = None
        self._reader = reader
        self._timestep_fs, self._frame_interval_fs = timestep_fs, frame_interval_fs
        self._start, self._stop, self._stride = start, stop, stride
        self._first = self._before = previous
        self._file = reader if isinstance(reader, UniverseReader) else reader.source

    @property
    def fraction_read(self) -> float:
        """How far into the file (0 to 1)."""
        return min(1.0, self._file.fraction_read)

    def __enter__(self) -> Trajectory:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        A frame that is cut off at the end is left out, logged, and named in ``truncated``.

        Raises
        ------
        TrajectoryError : unreadable text, atoms that come and go, or time that does not increase.
        """
        try:
            yield from self._frames()
        finally:
            self.close()

    def _frames(self) -> Iterator[Frame]:
        index = 0
        while self._stop is None or index < self._stop:
            try:
                frame = self._next(index)
            except TruncatedFrame:
                self._note_truncation(index)
                break
            except zlib.error as failure:
                raise TrajectoryError(f"{self.path}: damaged gzip file: {failure}") from None
            if frame is None:
                break
            if frame is not _SKIPPED:
                frame = self._checked(frame)
                if self._is_repeated(frame):
                    logger.info("%s: frame %d repeats the one before: left out", self.path, index)
                else:
                    if frame.time_fs is None and self._before is self._first is not None:
                        self._warn_of_frames_without_time()
                    self._before = frame
                    yield frame
            index += 1
        if self._before is None:
            raise TrajectoryError(
                f"{self.path}: no whole frame from number {self._start} on"
                + (f" ({self.truncated})" if self.truncated else "")
            )
        if self.truncated is None and isinstance(self._file, TextSource) and self._file.is_cut:
            self._note_truncation(index)

    def _next(self, index: int) -> Frame | None:
        """Return the next frame, `_SKIPPED` for one that is not wanted, None at the end."""
        if index >= self._start and (index - self._start) % self._stride == 0:
            return self._reader.read(index)
        return _SKIPPED if self._reader.skip(index) else None

    def _note_truncation(self, index: int) -> None:
        self.truncated = f"frame {index} is cut off at the end of the file and was left out"
        logger.warning("%s: %s", self.path, self.truncated)

    def _warn_of_frames_without_time(self) -> None:
        logger.warning(
            "%s: no times (%s): frames are counted instead; give the time step (--timestep FS) where the file counts "
            "steps, or the time between frames (--interval FS)",
            self.path,
            self._reader.why_no_time,
        )

    def _checked(self, frame: Frame) -> Frame:
        """Return the frame with its time, once it is known to fit to the first one."""
        where = f"{self.path}, frame {frame.index}"
        bad = ~np.isfinite(frame.positions).all(axis=1)
        if bad.any():
            raise TrajectoryError(f"{where}: the position of atom {bad.argmax()} is not finite")
        if self._first is None:
            self._first = frame
        check_same_atoms(frame, self._first, where)
        frame = self._with_time(frame, where)
        check_time(frame, self._before, where)
        return frame

    def _with_time(self, frame: Frame, where: str) -> Frame:
        """Return the frame with the time that the caller's interval or time step gives it, before that of the file."""
        if self._frame_interval_fs is not None:
            return replace(frame, time_fs=frame.index * self._frame_interval_fs)
        if self._timestep_fs is None:
            return frame
        if frame.step is None:
            raise TrajectoryError(
                f"{where}: the file does not count steps, so that a time step gives no times: leave it out "
                "(--timestep), or give the time between frames (--interval FS)"
            )
        return replace(frame, time_fs=frame.step * self._timestep_fs)

    def _is_repeated(self, frame: Frame) -> bool:
        """Does a frame, whose time is checked, only repeat the one before?"""
        return (
            self._before is not None
            and frame.time_fs is not None
            and frame.time_fs == self._before.time_fs
        )


_SKIPPED = Frame(np.empty((0, 3)), np.empty(0), np.zeros((3, 3)), np.zeros(3, dtype=bool))


def check_same_atoms(frame: Frame, first: Frame, where: str) -> None:
    """Raise TrajectoryError unless both frames hold the same atoms in the same order."""
    if frame.n_atoms != first.n_atoms:
        raise TrajectoryError(
            f"{where}: {frame.n_atoms} atoms, but {first.n_atoms} in frame {first.index}: atoms "
            "that come and go cannot be followed; analyse the parts of the run one by one"
        )
    if frame.ids is not None and first.ids is not None and (frame.ids != first.ids).any():
        new = np.setdiff1d(frame.ids, first.ids)[0]
        raise TrajectoryError(
            f"{where}: the atom with id {new} is not in frame {first.index}: atoms that come and go cannot be "
            "followed; analyse the parts of the run one by one"
        )
    differs = frame.numbers != first.numbers
    if differs.any():
        raise TrajectoryError(
            f"{where}: atom {differs.argmax()} is another element than in frame {first.index}: "
            "the order of the atoms changed; write the trajectory sorted, or with ids"
        )


def check_time(frame: Frame, before: Frame | None, where: str) -> None:
    """Raise TrajectoryError where time does not go on, unless the frame repeats the one before."""
    if before is None or (frame.time_fs is None and before.time_fs is None):
        return
    if frame.time_fs is None or before.time_fs is None:
        raise TrajectoryError(
            f"{where}: either this frame or frame {before.index} has no time: give the time between frames "
            "(--interval FS)"
        )
    if frame.time_fs > before.time_fs:
        return
    if frame.time_fs == before.time_fs and _is_same_place(frame, before):
        return  # a restarted run begins with the frame with which the one before ended
    raise TrajectoryError(
        f"{where}: its time, {frame.time_fs:g} fs, does not come after the {before.time_fs:g} fs of frame "
        f"{before.index} (steps set back, or runs that overlap): analyse the parts of the run one by one "
        "(--start, --stop), or give the time between frames (--interval FS)"
    )


def _is_same_place(frame: Frame, other: Frame) -> bool:
    """Do all atoms stand where they stood, but for digits and whole cells?"""
    _, distance = find_mic(frame.positions - other.positions, frame.cell, frame.pbc)
    return bool((distance < _SAME_PLACE).all())


def check_positive_time(time_fs: float | None, name: str) -> None:
    """Raise TrajectoryError for a time that makes none pass from frame to frame."""
    if time_fs is not None and not 0.0 < time_fs < math.inf:  # written so that NaN fails too
        raise TrajectoryError(f"{name} must be positive and finite, got {time_fs:g} fs")


def is_text_trajectory(path: str | Path) -> bool:
    """Is this file extended XYZ or a LAMMPS dump, by its name or its first line?"""
    return _text_kind(Path(path)) is not None


def _text_kind(path: Path) -> str | None:
    """Return "xyz", "dump" or None."""
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix in _XYZ_SUFFIXES:
        return "xyz"
    if suffix in _DUMP_SUFFIXES:
        return "dump"
    source = TextSource(path)
    try:
        first = source.line()
    finally:
        source.close()
    if first.startswith("ITEM:"):
        return "dump"
    return "xyz" if first.strip().isdigit() else None


def open_trajectory(
    path: str | Path,
    topology: str | Path | None = None,
    elements: Sequence[str] | None = None,
    timestep_fs: float | None = None,
    frame_interval_fs: float | None = None,
    start: int = 0,
    stop: int | None = None,
    stride: int = 1,
    previous: Frame | None = None,
    units: str | None = None,
) -> Trajectory:
    """Open a trajectory.

    Parameters
    ----------
    path : extended XYZ (ASE, GPUMD), LAMMPS text dump, either of them gzipped; or DCD, XTC
        and other formats of MDAnalysis, which need a topology.
    topology : for binary formats: anything with elements that MDAnalysis reads, an
        extended XYZ file, or a LAMMPS dump.
    elements : symbols of types 1, 2, ... where the file knows only types; else they are not used, which is logged.
    timestep_fs : MD time step, fs, for files that count steps; goes before the times in the file.
    frame_interval_fs : time from frame to frame, fs; goes before everything else. Frames without any time
        have ``time_fs=None``, which is logged.
    start, stop, stride : which frames, as in a slice.
    previous : frame that was read last, where the reading goes on after it: atoms and time must go on from it.
    units : of LAMMPS, as ``"metal"``, for velocities and times of a dump that does not name its own.

    Raises
    ------
    TrajectoryError : no such file, unknown format, no topology, unknown units, a time that is not positive.
    """
    path = Path(path)
    check_positive_time(timestep_fs, "the time step (--timestep)")
    check_positive_time(frame_interval_fs, "the time between frames (--interval)")
    if units is not None and units not in FS_PER_TIME_UNIT:
        raise TrajectoryError(f"units must be one of {', '.join(FS_PER_TIME_UNIT)}, got {units}")
    if not path.is_file():
        raise TrajectoryError(f"no such trajectory: {path}")
    if start < 0 or stride < 1:
        raise TrajectoryError(f"start must be >= 0 and stride >= 1, got {start} and {stride}")
    kind = _text_kind(path) if topology is None else None
    reader: ExtxyzReader | LammpsDumpReader | UniverseReader
    if kind == "xyz":
        if elements is not None:
            warn_of_unused_elements(path)
        reader = ExtxyzReader(TextSource(path))
    elif kind == "dump":
        reader = LammpsDumpReader(TextSource(path), elements, units)
    elif topology is None:
        raise TrajectoryError(
            f"{path}: neither extended XYZ nor a LAMMPS text dump; "
            "a binary trajectory (DCD, XTC) needs a topology beside it (--topology FILE)"
        )
    else:
        universe, numbers = open_universe(path, Path(topology))
        reader = UniverseReader(universe, numbers, elements)
    return Trajectory(path, reader, timestep_fs, frame_interval_fs, start, stop, stride, previous)
