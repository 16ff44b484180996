"""Which atoms belong to which electrode, as smooth functions of the positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from ase import Atoms

from qnep.neighbors import VerletList


def smoothstep(
    value: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:  # both as value
    """Return a step from 0 (up to low) to 1 (from high on) with two continuous derivatives, and its slope."""
    x = np.clip((value - low) / (high - low), 0.0, 1.0)
    return x**3 * (10 - 15 * x + 6 * x**2), 30 * x**2 * (1 - x) ** 2 / (high - low)


@dataclass
class Weights:
    """Memberships that do not depend on the positions.

    Attributes
    ----------
    values : (n_electrodes, n_atoms), 0 ... 1; the sum over electrodes is at most 1.
    """

    values: np.ndarray

    def pull_back(self, derivatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return forces (n_atoms, 3), eV/Å, and virial (3, 3), eV, from dE/dvalues (n_electrodes, n_atoms), eV."""
        return np.zeros((derivatives.shape[1], 3)), np.zeros((3, 3))


@dataclass
class SmoothWeights(Weights):
    """Memberships made of counts of neighbours and of positions along an axis, with their derivatives.

    Attributes
    ----------
    first, second, vectors : pairs of metal atoms, both directions, and r_ij, (n_pairs, 3), Å.
    count_slopes : (n_pairs,), derivative of the pair's part in the count of `first` by the distance, over the distance.
    metal : (n_atoms,), weight in all electrodes together; metal_slopes its derivative by the count.
    sides : (n_electrodes, n_atoms), share of each; side_gradients (n_electrodes, n_atoms, 3), 1/Å.
    """

    first: np.ndarray
    second: np.ndarray
    vectors: np.ndarray
    count_slopes: np.ndarray
    metal: np.ndarray
    metal_slopes: np.ndarray
    sides: np.ndarray
    side_gradients: np.ndarray

    def pull_back(self, derivatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As for `Weights`. Fractions along the axis do not change with a strain: no virial from the sides."""
        per_count = np.sum(derivatives * self.sides, axis=0) * self.metal_slopes
        gradients = (per_count[self.first] * self.count_slopes)[:, None] * self.vectors  # dE/dr_ij
        forces = -np.einsum("ei,i,eia->ia", derivatives, self.metal, self.side_gradients)
        np.add.at(forces, self.first, gradients)
        np.add.at(forces, self.second, -gradients)
        return forces, -self.vectors.T @ gradients


class Membership(Protocol):
    """Gives the weights of all atoms in all electrodes."""

    def weights(self, atoms: Atoms, fractions: np.ndarray) -> Weights: ...


@dataclass
class FixedMembership:
    """Electrodes as fixed groups of atoms.

    Parameters
    ----------
    groups : for each electrode the indices of its atoms.
    """

    groups: Sequence[Sequence[int]]

    def weights(self, atoms: Atoms, fractions: np.ndarray) -> Weights:
        """Return weights of 0 and 1."""
        values = np.zeros((len(self.groups), len(atoms)))
        for electrode, indices in enumerate(self.groups):
            chosen = np.asarray(indices, dtype=int)
            if chosen.size and (chosen.min() < 0 or chosen.max() >= len(atoms)):
                raise ValueError(
                    f"electrode atoms must be in 0 ... {len(atoms) - 1}, got {chosen.min()} ... {chosen.max()}"
                )
            values[electrode, chosen] = 1.0
        if np.any(values.sum(axis=0) > 1.0):
            shared = np.flatnonzero(values.sum(axis=0) > 1.0)
            raise ValueError(f"atoms {shared[:5].tolist()} belong to more than one electrode")
        return Weights(values)


@dataclass
class CoordinationMembership:
    """Metal atoms that have enough metal neighbours, divided among electrodes by planes in the electrolyte.

    A metal atom's count of metal neighbours is a sum of steps from 1 to 0 over ``distances``; its total weight is a
    step from 0 to 1 over ``counts``; its share in neighbouring electrodes a step across each plane. All steps have
    two continuous derivatives, so energy and forces stay continuous when an atom plates or dissolves.

    Parameters
    ----------
    elements : symbols of the metal.
    distances : Å, between which a neighbour fades out; should enclose the gap behind the second shell of the metal.
    counts : between which an atom becomes part of an electrode. An atom on a (001) surface of a bcc metal has 9 of 14
        neighbours in two shells, an adatom 4 or 5.
    planes : positions of the dividing planes along the slab axis, as fractions of that cell vector, ascending, one
        less than there are electrodes.
    plane_width : fraction of the cell vector over which a plane divides.
    always : indices of atoms that count as electrode whatever their neighbours are (outermost layers).
    axis : cell vector along which the planes divide; that of the slab.
    skin : Å, of the neighbour list.
    """

    elements: Sequence[str]
    distances: tuple[float, float] = (4.2, 5.2)
    counts: tuple[float, float] = (5.0, 8.0)
    planes: Sequence[float] = ()
    plane_width: float = 0.05
    always: Sequence[int] = ()
    axis: int = 2
    skin: float = 0.6
    _neighbors: VerletList | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("distances", "counts"):
            low, high = getattr(self, name)
            if not 0 < low < high:
                raise ValueError(f"{name} must be positive and ascending, got {low}, {high}")
        if np.any(np.diff(self.planes) <= self.plane_width) or self.plane_width <= 0:
            raise ValueError(
                f"planes must ascend by more than plane_width, got {list(self.planes)} and {self.plane_width}"
            )

    def weights(self, atoms: Atoms, fractions: np.ndarray) -> Weights:
        """Return smooth weights; fractions: (n_atoms,), along the slab axis not wrapped through the vacuum."""
        n_atoms = len(atoms)
        metal = np.isin(atoms.get_chemical_symbols(), list(self.elements))
        i, j, vectors = self._metal_pairs(atoms, metal)
        distances = np.linalg.norm(vectors, axis=1)
        step, slope = smoothstep(distances, *self.distances)
        counts = np.bincount(i, 1.0 - step, minlength=n_atoms)
        total, total_slope = smoothstep(counts, *self.counts)
        fixed = np.isin(np.arange(n_atoms), np.asarray(self.always, dtype=int))
        total = np.where(metal, np.where(fixed, 1.0, total), 0.0)
        total_slope = np.where(metal & ~fixed, total_slope, 0.0)
        sides, side_gradients = self._sides(atoms, fractions)
        return SmoothWeights(
            values=sides * total,
            first=i,
            second=j,
            vectors=vectors,
            count_slopes=-slope / distances,
            metal=total,
            metal_slopes=total_slope,
            sides=sides,
            side_gradients=side_gradients,
        )

    def _metal_pairs(
        self, atoms: Atoms, metal: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._neighbors is None:
            self._neighbors = VerletList(self.distances[1], self.skin)
        neighbors = self._neighbors
        neighbors.update(atoms.positions, atoms.cell.array, atoms.pbc)
        chosen = metal[neighbors.first] & metal[neighbors.second]
        i, j = neighbors.first[chosen], neighbors.second[chosen]
        shifts = neighbors.shifts[chosen] @ atoms.cell.array
        vectors = atoms.positions[j] + shifts - atoms.positions[i]
        near = np.einsum("pa,pa->p", vectors, vectors) < self.distances[1] ** 2
        return i[near], j[near], vectors[near]

    def _sides(self, atoms: Atoms, fractions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Partition of unity along the slab axis, [n_electrodes, n_atoms], and its gradients."""
        n_electrodes = len(self.planes) + 1
        above = np.ones((n_electrodes + 1, len(atoms)))  # step across the plane below electrode e
        slopes = np.zeros_like(above)
        above[-1] = 0.0
        for e, plane in enumerate(self.planes, start=1):
            half = 0.5 * self.plane_width
            above[e], slopes[e] = smoothstep(fractions, plane - half, plane + half)
        sides = above[:-1] - above[1:]
        return sides, (slopes[:-1] - slopes[1:])[:, :, None] * self._axis_gradient(atoms)

    def _axis_gradient(self, atoms: Atoms) -> np.ndarray:  # [3]
        return np.linalg.inv(atoms.cell.array)[:, self.axis]
