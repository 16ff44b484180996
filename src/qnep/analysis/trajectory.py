"""Open a trajectory of any supported format and stream its frames."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from qnep.analysis.binary_format import UniverseReader, open_universe
from qnep.analysis.errors import TrajectoryError, TruncatedFrame
from qnep.analysis.extxyz_format import ExtxyzReader
from qnep.analysis.frame import Frame
from qnep.analysis.lammps_dump_format import LammpsDumpReader
from qnep.analysis.text_source import TextSource

logger = logging.getLogger(__name__)

_XYZ_SUFFIXES = (".xyz", ".extxyz", ".exyz")
_DUMP_SUFFIXES = (".lammpstrj", ".dump", ".lammpsdump", ".atom")


class Trajectory:
    """Frames of a file, one at a time; memory holds no more than one.

    Iterate over it once; the file closes with the iteration, or with a ``with`` block.

    Attributes
    ----------
    truncated : what was cut off at the end of the file, or None.
    fraction_read : how far into the file (0 to 1).
    """

    def __init__(
        self,
        path: Path,
        reader: ExtxyzReader | LammpsDumpReader | UniverseReader,
        frame_interval_fs: float | None = None,
        start: int = 0,
        stop: int | None = None,
        stride: int = 1,
    ):
        self.path = path
        self.truncated: str | None = None
        self._reader = reader
        self._frame_interval_fs = frame_interval_fs
        self._start, self._stop, self._stride = start, stop, stride
        self._first: Frame | None = None
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
        TrajectoryError : unreadable text, or atoms that come and go.
        """
        try:
            yield from self._frames()
        finally:
            self.close()

    def _frames(self) -> Iterator[Frame]:
        index, n_yielded = 0, 0
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
                n_yielded += 1
                yield self._checked(frame)
            index += 1
        if n_yielded == 0 and index <= self._start:
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

    def _checked(self, frame: Frame) -> Frame:
        """Return the frame with its time, once it is known to fit to the first one."""
        where = f"{self.path}, frame {frame.index}"
        bad = ~np.isfinite(frame.positions).all(axis=1)
        if bad.any():
            raise TrajectoryError(f"{where}: the position of atom {bad.argmax()} is not finite")
        if self._first is None:
            self._first = frame
        check_same_atoms(frame, self._first, where)
        if self._frame_interval_fs is not None:
            frame = replace(frame, time_fs=frame.index * self._frame_interval_fs)
        return frame


_SKIPPED = Frame(np.empty((0, 3)), np.empty(0), np.zeros((3, 3)), np.zeros(3, dtype=bool))


def check_same_atoms(frame: Frame, first: Frame, where: str) -> None:
    """Raise TrajectoryError unless both frames hold the same atoms in the same order."""
    if frame.n_atoms != first.n_atoms:
        raise TrajectoryError(
            f"{where}: {frame.n_atoms} atoms, but {first.n_atoms} in frame {first.index}: atoms "
            "that come and go cannot be followed; analyse the parts of the run one by one"
        )
    differs = frame.numbers != first.numbers
    if differs.any():
        raise TrajectoryError(
            f"{where}: atom {differs.argmax()} is another element than in frame {first.index}: "
            "the order of the atoms changed; write the trajectory sorted, or with ids"
        )


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
) -> Trajectory:
    """Open a trajectory.

    Parameters
    ----------
    path : extended XYZ (ASE, GPUMD), LAMMPS text dump, either of them gzipped; or DCD, XTC
        and other formats of MDAnalysis, which need a topology.
    topology : for binary formats: anything with elements that MDAnalysis reads, an
        extended XYZ file, or a LAMMPS dump.
    elements : symbols of types 1, 2, ... where the file knows only types.
    timestep_fs : MD time step, fs, for dumps that count steps.
    frame_interval_fs : time from frame to frame, fs; goes before all times in the file.
    start, stop, stride : which frames, as in a slice.

    Raises
    ------
    TrajectoryError : no such file, unknown format, no topology.
    """
    path = Path(path)
    if not path.is_file():
        raise TrajectoryError(f"no such trajectory: {path}")
    if start < 0 or stride < 1:
        raise TrajectoryError(f"start must be >= 0 and stride >= 1, got {start} and {stride}")
    kind = _text_kind(path) if topology is None else None
    reader: ExtxyzReader | LammpsDumpReader | UniverseReader
    if kind == "xyz":
        reader = ExtxyzReader(TextSource(path))
    elif kind == "dump":
        reader = LammpsDumpReader(TextSource(path), elements, timestep_fs)
    elif topology is None:
        raise TrajectoryError(
            f"{path}: neither extended XYZ nor a LAMMPS text dump; "
            "a binary trajectory (DCD, XTC) needs a topology beside it (--topology FILE)"
        )
    else:
        universe, numbers = open_universe(path, Path(topology))
        reader = UniverseReader(universe, numbers, elements)
    return Trajectory(path, reader, frame_interval_fs, start, stop, stride)
