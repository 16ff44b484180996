"""Bonds that last: neighbour pairs, hysteresis, and a minimum lifetime.

A pair of atoms is the integer ``i * n_atoms + j`` with ``i < j``; a set of bonds is a sorted array of
such keys. All work on a frame is done on whole arrays.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from ase.geometry import complete_cell
from vesin import NeighborList

from qnep.analysis.bond_cutoffs import PairTable
from qnep.analysis.frame import Frame

Pairs: TypeAlias = "tuple[np.ndarray, np.ndarray, np.ndarray]"
"""Atoms i, atoms j, and what separates them."""

MOST_CELLS = (
    100_000  # vesin makes no more; beyond, its time per atom grows with the number of atoms
)

NO_BONDS = np.empty(0, dtype=np.int64)


def neighbor_pairs(
    frame: Frame, cutoff: float, atoms: np.ndarray | None = None, vectors: bool = False
) -> Pairs:
    """Return i, j, and distances (or vectors r_j - r_i) of all pairs within a cutoff, each once.

    Parameters
    ----------
    cutoff : Å.
    atoms : indices of the atoms to look at; all of them by default.

    Returns
    -------
    i, j : (n_pairs,) arrays. A pair appears once per periodic image within the cutoff.
    distances : (n_pairs,) or vectors (n_pairs, 3), Å.
    """
    positions = frame.positions if atoms is None else frame.positions[atoms]
    if len(positions) == 0 or cutoff <= 0:
        empty = np.empty((0, 3) if vectors else 0)
        return NO_BONDS, NO_BONDS, empty
    quantities = "ijD" if vectors else "ijd"
    heights = _heights(frame.cell)
    n_slabs = math.ceil(np.prod(np.maximum(heights / cutoff, 1.0)) / MOST_CELLS)
    if n_slabs == 1 or heights.max() < 4 * cutoff:
        i, j, separation = _pairs(positions, frame.cell, frame.pbc, cutoff, quantities)
    else:
        i, j, separation = _pairs_by_slabs(
            positions, frame.cell, np.asarray(frame.pbc, dtype=bool), cutoff, quantities, n_slabs
        )
    if atoms is not None:
        i, j = atoms[i], atoms[j]
    return i, j, separation


def _pairs(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float, quantities: str
) -> Pairs:
    if np.any(pbc) and not np.all(pbc):  # many times slower in vesin than empty space is
        cell, pbc = _with_vacuum(positions, cell, pbc, cutoff), np.array([True] * 3)
    neighbors = NeighborList(cutoff=cutoff, full_list=False)
    i, j, separation = neighbors.compute(
        points=positions, box=cell, periodic=pbc, quantities=quantities
    )
    return i.astype(np.int64), j.astype(np.int64), separation


def _with_vacuum(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> np.ndarray:
    """Return a cell in which no pair within the cutoff crosses a face that is not periodic."""
    cell = complete_cell(cell)
    extent = np.ptp(positions @ np.linalg.inv(cell), axis=0)
    stretch = np.where(pbc, 1.0, extent + 1.01 * cutoff / _heights(cell))
    return cell * stretch[:, None]


def _heights(cell: np.ndarray) -> np.ndarray:
    """Distances of opposite faces of a cell, Å; 0 for a cell without volume."""
    volume = abs(np.linalg.det(cell))
    if volume == 0.0:
        return np.zeros(3)
    return volume / np.linalg.norm(
        np.cross(np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0)), axis=1
    )


def _pairs_by_slabs(
    positions: np.ndarray,
    cell: np.ndarray,
    pbc: np.ndarray,
    cutoff: float,
    quantities: str,
    n_slabs: int,
) -> Pairs:
    """Pairs slab by slab along the cell's longest direction; a pair belongs to the slab of its lower atom."""
    heights = _heights(cell)
    axis = int(np.argmax(heights))
    reach = cutoff / heights[axis]
    along = positions @ np.linalg.inv(cell)[:, axis]
    if pbc[axis]:
        images = np.floor(along)
        positions = positions - images[:, None] * cell[axis]
        along = along - images
    others = np.where(np.arange(3) == axis, False, pbc)
    edges = np.linspace(along.min(), np.nextafter(along.max(), np.inf), n_slabs + 1)
    parts = []
    for low, high in itertools.pairwise(edges):
        own = np.flatnonzero((along >= low) & (along < high))
        above = np.flatnonzero((along >= high) & (along < high + reach))
        through = np.flatnonzero(along < high + reach - 1.0) if pbc[axis] else above[:0]
        index = np.concatenate((own, above, through))
        local = positions[index]
        local[len(own) + len(above) :] += cell[axis]
        i, j, separation = _pairs(local, cell, others, cutoff, quantities)
        is_ours = (i < len(own)) | (j < len(own))
        parts.append((index[i[is_ours]], index[j[is_ours]], separation[is_ours]))
    i, j, separation = (np.concatenate(column) for column in zip(*parts))
    return i, j, separation


@dataclass(frozen=True)
class RawBonds:
    """Pairs of one frame by distance alone, as sorted keys.

    Parameters
    ----------
    near : nearer than the form distance.
    middle : nearer than the mean of form and break distance (the choice in the first frame).
    far : nearer than the break distance.
    """

    near: np.ndarray
    middle: np.ndarray
    far: np.ndarray


def raw_bonds(numbers: np.ndarray, pairs: Pairs, table: PairTable) -> RawBonds:
    """Sort pairs (i, j, distance) into those near enough to bond, and to stay bonded."""
    i, j, distance = pairs
    element = table.index_of_number[numbers]
    pair = element[i] * len(table.form) + element[j]
    form, break_ = table.form.ravel()[pair], table.break_.ravel()[pair]
    is_far = (distance < break_) & (i != j)
    i, j, distance = i[is_far], j[is_far], distance[is_far]
    form, break_ = form[is_far], break_[is_far]
    keys = np.minimum(i, j) * len(numbers) + np.maximum(i, j)
    order = np.argsort(keys)
    keys, distance = keys[order], distance[order]
    form, break_ = form[order], break_[order]
    near, middle = keys[distance < form], keys[distance < 0.5 * (form + break_)]
    return RawBonds(_unique(near), _unique(middle), _unique(keys))


def _unique(keys: np.ndarray) -> np.ndarray:
    """Drop repeats of a sorted array (in a small cell a pair has several images)."""
    repeats = keys[1:] == keys[:-1]
    return keys[np.concatenate(([True], ~repeats))] if repeats.any() else keys


def is_member(keys: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return a mask over sorted ``keys``: which are in the sorted array ``of``."""
    if len(of) == 0:
        return np.zeros(len(keys), dtype=bool)
    at = np.searchsorted(of, keys)
    at[at == len(of)] = 0
    return of[at] == keys


def _union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the union of two sorted arrays."""
    new = second[~is_member(second, first)]
    return first if len(new) == 0 else np.insert(first, np.searchsorted(first, new), new)


@dataclass(frozen=True)
class BondChange:
    """The bonds of one frame and how they differ from those of the frame before.

    Parameters
    ----------
    bonds : sorted keys of all bonds.
    formed, broken : sorted keys; empty for the first frame.
    """

    bonds: np.ndarray
    formed: np.ndarray
    broken: np.ndarray


class BondTracker:
    """Follows bonds with hysteresis, and lets a change count only once it has lasted.

    A pair enters below its form distance and leaves above its break distance. The change counts,
    from the frame in which it was first seen, if it is still there ``delay`` frames later without a
    break; shorter recrossings leave no trace. So what comes out lags ``delay`` frames behind what
    goes in, and a change in the last ``delay`` frames does not count.

    Parameters
    ----------
    delay : frames, >= 0; may be set until the second frame goes in.
    """

    def __init__(self, delay: int = 0):
        self.delay = delay
        self._seen = NO_BONDS  # with hysteresis, now
        self._lasting = NO_BONDS  # with minimum lifetime, `delay` frames ago
        self._pending = NO_BONDS  # pairs in which the two differ
        self._age = NO_BONDS  # [n_pending] frames since they do
        self._n_frames = 0

    def add(self, raw: RawBonds) -> BondChange | None:
        """Take the next frame; return the bonds of the one ``delay`` frames before, if there is one."""
        self._n_frames += 1
        if self._n_frames == 1:
            self._seen = self._lasting = raw.middle
            return BondChange(self._lasting, NO_BONDS, NO_BONDS) if self.delay == 0 else None
        kept = self._seen[is_member(self._seen, raw.far)]
        self._seen = _union(kept, raw.near)
        formed, broken = self._settle()
        if self._n_frames <= self.delay:
            return None
        return BondChange(self._lasting, formed, broken)

    def _settle(self) -> tuple[np.ndarray, np.ndarray]:
        """Age what differs, and accept what differed for long enough."""
        new = self._seen[~is_member(self._seen, self._lasting)]
        gone = self._lasting[~is_member(self._lasting, self._seen)]
        differing = np.concatenate((new, gone))
        order = np.argsort(differing)
        differing = differing[order]
        age = np.zeros(len(differing), dtype=np.int64)
        was = is_member(differing, self._pending)
        age[was] = self._age[np.searchsorted(self._pending, differing[was])] + 1
        is_ripe = age >= self.delay
        ripe = differing[is_ripe]
        self._pending, self._age = differing[~is_ripe], age[~is_ripe]
        is_formed = is_member(ripe, new)
        formed, broken = ripe[is_formed], ripe[~is_formed]
        if len(broken):
            self._lasting = self._lasting[~is_member(self._lasting, broken)]
        if len(formed):
            self._lasting = _union(self._lasting, formed)
        return formed, broken

    def flush(self) -> list[BondChange]:
        """Return the frames still held back, in which no further change counts."""
        n_left = min(self.delay, self._n_frames)
        return [BondChange(self._lasting, NO_BONDS, NO_BONDS)] * n_left
