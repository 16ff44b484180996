"""A handful of frames, spread over a trajectory of unknown length."""

from __future__ import annotations

from ase.data import chemical_symbols

from qnep.analysis.findings import Snapshot
from qnep.analysis.frame import Frame

LARGEST = 20000  # atoms that a browser still turns smoothly


class SnapshotKeeper:
    """Keeps at most ``n_most`` frames at equal distances, and the last one.

    When there are too many, every other one goes and the distance doubles.
    """

    def __init__(self, n_most: int = 8):
        self.n_most = n_most
        self._stride = 1
        self._n_frames = 0
        self._kept: list[tuple[int, Snapshot]] = []
        self._last: Snapshot | None = None
        self.is_too_large = False

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        if frame.n_atoms > LARGEST:
            self.is_too_large = True
            return
        self._last = make_snapshot(frame)
        if self._n_frames % self._stride == 0:
            self._kept.append((self._n_frames, self._last))
        self._n_frames += 1
        if len(self._kept) > self.n_most:
            self._stride *= 2
            self._kept = [(k, one) for k, one in self._kept if k % self._stride == 0]

    def result(self) -> list[Snapshot]:
        """Return the kept frames, the last one at the end."""
        kept = [one for _, one in self._kept]
        if self._last is not None and kept[-1] is not self._last:
            kept.append(self._last)
        return kept


def make_snapshot(frame: Frame) -> Snapshot:
    """Return a frame as a snapshot."""
    time = "" if frame.time_fs is None else f", {frame.time_fs / 1000:.3f} ps"
    return Snapshot(
        f"frame {frame.index}{time}",
        [chemical_symbols[z] for z in frame.numbers],
        frame.positions.round(3).tolist(),
        frame.cell.round(4).tolist(),
        None if frame.charges is None else frame.charges.round(3).tolist(),
    )
