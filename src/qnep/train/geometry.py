"""Everything that stays constant while a model is trained: neighbours, densities A and Ewald matrices.

The coefficients c of the radial functions enter the descriptors linearly. So the sums over neighbours,
A[i, t, k, (abc)] = sum of f_k(d) (B_abc(u)) over the neighbours of type t, are computed once, and a training step works
on atoms only. Forces are a constant linear map of dE/dA, for which the tables per pair are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from vesin import NeighborList

from qnep.train.frames import Frame
from qnep.train.harmonics import evaluate_harmonics
from qnep.train.radial import orthonormal_transform, radial_functions

SHORTEST_DISTANCE = 1e-3  # Å; atoms closer than this are an error of the structure


@dataclass(frozen=True)
class Pairs:
    """Directed neighbour pairs (i, j) of one cutoff, sorted by the centre i and within it by the type of j.

    first, second : [n_pairs] atoms of the batch.
    types : [n_pairs] type of `second`.
    vectors : [n_pairs, 3], r_j - r_i, Å.
    distances : [n_pairs], Å.
    cutoffs : [n_pairs], Å.
    """

    first: np.ndarray
    second: np.ndarray
    types: np.ndarray
    vectors: np.ndarray
    distances: np.ndarray
    cutoffs: np.ndarray

    def within(self, cutoffs: np.ndarray) -> Pairs:
        """Return the pairs closer than their new cutoffs [n_pairs]."""
        keep = self.distances < cutoffs
        return Pairs(
            self.first[keep],
            self.second[keep],
            self.types[keep],
            self.vectors[keep],
            self.distances[keep],
            cutoffs[keep],
        )

    def rows(self, n_atoms: int) -> np.ndarray:
        """Return where the pairs of each centre begin, [n_atoms + 1]."""
        counts = np.bincount(self.first, minlength=n_atoms)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@dataclass(frozen=True)
class AtomOrder:
    """The atoms of several frames, sorted by type and within a type by frame.

    types, frames : [n_atoms], in the new order.
    position_of : list over frames of [n_atoms of the frame], where its atoms went.
    blocks : [n_types, n_frames + 1], beginnings of the atoms of type t in frame f.
    """

    types: np.ndarray
    frames: np.ndarray
    position_of: list[np.ndarray]
    blocks: np.ndarray

    @property
    def n_atoms(self) -> int:
        return len(self.types)

    @property
    def n_frames(self) -> int:
        return len(self.position_of)


def order_atoms(frames: Sequence[Frame], n_types: int) -> AtomOrder:
    """Return the order of atoms in which a batch of frames is processed."""
    types = np.concatenate([frame.types for frame in frames])
    owners = np.repeat(np.arange(len(frames)), [len(frame.types) for frame in frames])
    order = np.lexsort((owners, types))
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    ends = np.cumsum([len(frame.types) for frame in frames])
    counts = np.zeros((n_types, len(frames)), dtype=np.int64)
    np.add.at(counts, (types, owners), 1)
    starts = np.concatenate([[0], np.cumsum(counts.ravel())])
    blocks = np.stack([starts[t * len(frames) : (t + 1) * len(frames) + 1] for t in range(n_types)])
    return AtomOrder(types[order], owners[order], np.split(inverse, ends[:-1]), blocks)


def find_pairs(frames: Sequence[Frame], order: AtomOrder, cutoffs: np.ndarray) -> Pairs:
    """Return all directed pairs within the pair cutoff (R_i + R_j)/2, periodic images of an atom itself included.

    cutoffs : [n_types], Å.
    """
    parts = [_frame_pairs(frame, float(cutoffs.max())) for frame in frames]
    first = np.concatenate([order.position_of[f][i] for f, (i, _, _) in enumerate(parts)])
    second = np.concatenate([order.position_of[f][j] for f, (_, j, _) in enumerate(parts)])
    vectors = np.concatenate([vector for _, _, vector in parts])
    types = order.types[second]
    sorting = np.lexsort((second, types, first))
    first, second, types, vectors = (
        first[sorting],
        second[sorting],
        types[sorting],
        vectors[sorting],
    )
    distances = np.linalg.norm(vectors, axis=1)
    pair_cutoffs = 0.5 * (cutoffs[order.types[first]] + cutoffs[types])
    return Pairs(first, second, types, vectors, distances, pair_cutoffs).within(pair_cutoffs)


def _frame_pairs(frame: Frame, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return first and second atoms and vectors of all pairs, along open directions without images."""
    neighbors = NeighborList(cutoff=cutoff, full_list=True)
    first, second, vectors = neighbors.compute(
        points=frame.positions, box=frame.cell, periodic=frame.pbc, quantities="ijD"
    )
    if len(vectors) and np.linalg.norm(vectors, axis=1).min() < SHORTEST_DISTANCE:
        raise ValueError(f"{frame.label}: two atoms at the same place; remove one of them")
    return first.astype(np.int64), second.astype(np.int64), vectors


@dataclass(frozen=True)
class RadialTables:
    """Radial basis of every pair in the trainer's basis: values, slopes [n_pairs, n_basis] (1 and 1/Å)."""

    values: np.ndarray
    slopes: np.ndarray


def radial_tables(pairs: Pairs, n_basis: int) -> RadialTables:
    """Return the orthonormalised radial functions of every pair."""
    values, slopes = radial_functions(pairs.distances, pairs.cutoffs, n_basis)
    transform = orthonormal_transform(n_basis).T
    return RadialTables(values @ transform, slopes @ transform)


def angular_tables(pairs: Pairs, l_max: int) -> tuple[np.ndarray, np.ndarray]:
    """Return B_abc(u) [n_pairs, n_harmonics] and dB_abc/dr [n_pairs, 3, n_harmonics] (1/Å)."""
    values, gradients = evaluate_harmonics(pairs.vectors / pairs.distances[:, None], l_max)
    gradients /= pairs.distances[:, None, None]
    return values, gradients


def radial_density(pairs: Pairs, tables: RadialTables, n_atoms: int, n_types: int) -> np.ndarray:
    """Return A[i, t, k], the sum of f_k over the neighbours of type t, as [n_atoms, n_types * n_basis]."""
    slots = pairs.first * n_types + pairs.types
    return _sum_by_slot(tables.values, slots, n_atoms * n_types).reshape(n_atoms, -1)


def angular_density(
    pairs: Pairs, tables: RadialTables, harmonics: np.ndarray, n_atoms: int, n_types: int
) -> np.ndarray:
    """Return A[t, k, i, abc] as [n_types * n_basis, n_atoms, n_harmonics]."""
    slots = pairs.first * n_types + pairs.types
    n_basis = tables.values.shape[1]
    density = np.empty((n_types, n_basis, n_atoms, harmonics.shape[1]))
    for k in range(n_basis):
        terms = tables.values[:, k, None] * harmonics
        total = _sum_by_slot(terms, slots, n_atoms * n_types)
        density[:, k] = total.reshape(n_atoms, n_types, -1).transpose(1, 0, 2)
    return density.reshape(n_types * n_basis, n_atoms, -1)


def _sum_by_slot(terms: np.ndarray, slots: np.ndarray, n_slots: int) -> np.ndarray:
    """Sum rows with equal slot; the slots are sorted."""
    total = np.zeros((n_slots, terms.shape[1]))
    if len(slots):
        starts = np.flatnonzero(np.concatenate([[True], slots[1:] != slots[:-1]]))
        total[slots[starts]] = np.add.reduceat(terms, starts, axis=0)
    return total
