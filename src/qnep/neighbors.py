"""Neighbour lists of periodic and open systems that stay valid for several steps."""

from __future__ import annotations

import numpy as np
from ase.geometry.cell import complete_cell
from vesin import NeighborList

SHORTEST_DISTANCE = 1e-3  # Å; two atoms nearer than this stand at one place
LARGEST_COORDINATE = 1e8  # Å; beyond, a double no longer resolves a bond to 1e-8
LARGEST_EXTENT = 2e4  # Å; the search divides the system into cells and fails when there are many in one direction
SQRT_3 = 3.0**0.5
FEW_NUMBERS = 4096  # arrays up to this size are faster compared as bytes
MOST_NEIGHBORS = 10**4  # of an atom on average; a hundred times what dense matter has
MOST_CELLS = 10**5  # copies of a periodic cell within the cutoff; more is a slip of units


def are_equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays hold the same numbers; small ones the same bits, which takes a tenth of the time."""
    if a.shape != b.shape:
        return False
    if a.size <= FEW_NUMBERS and a.dtype == b.dtype:
        return are_identical(a, b)
    return bool((a == b).all())


def are_identical(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two small arrays of one type hold the same bits."""
    return a.tobytes() == b.tobytes()


class VerletList:
    """Pairs within a cutoff plus a skin, rebuilt only when a pair could have been missed.

    Parameters
    ----------
    cutoff : Å, of the pairs that must be there.
    skin : Å, added to the cutoff when the list is built. Larger: rarer rebuilds, more pairs.
    n_threads : of the search.

    Attributes
    ----------
    first, second : (n_pairs,) int32 arrays; each pair is listed in both directions.
    shifts : (n_pairs, 3) int32 array; the pair's vector is ``positions[second] + shifts @ cell - positions[first]``.
    n_builds : how many times the list was built.
    """

    def __init__(self, cutoff: float, skin: float, n_threads: int = 1):
        if not (cutoff > 0.0 and np.isfinite(cutoff)):
            raise ValueError(f"the cutoff of a neighbour list must be positive, got {cutoff}")
        if not (skin >= 0.0 and np.isfinite(skin)):
            raise ValueError(f"the skin of a neighbour list must not be negative, got {skin}")
        self.cutoff = cutoff
        self.skin = skin
        self.n_builds = 0
        self.first = self.second = np.empty(0, np.int32)
        self.shifts = np.empty((0, 3), np.int32)
        self._search = NeighborList(cutoff=cutoff + skin, full_list=True, n_threads=n_threads)
        self._reference: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def update(self, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> bool:
        """Build the list anew if atoms or cell have moved too far; say whether it was.

        Parameters
        ----------
        positions : (n_atoms, 3) array, Å, anywhere in space.
        cell : (3, 3) array, Å, rows are cell vectors; those of open directions are not used.
        pbc : (3,) booleans.

        Raises
        ------
        ValueError : not finite or absurdly large coordinates, a periodic cell without volume, a density that no
            matter has, two atoms at one place.
        """
        # What is not finite is never valid, so the checks need not run at every step.
        if self._is_valid(positions, cell, pbc):
            return False
        _check_geometry(positions, cell, pbc, self.cutoff + self.skin)
        self._build(positions, cell, pbc)
        self._reference = (positions.copy(), cell.copy(), pbc.copy())
        self.n_builds += 1
        return True

    def _is_valid(self, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> bool:
        if self._reference is None or self.skin == 0.0:
            return False
        old_positions, old_cell, old_pbc = self._reference
        if len(positions) != len(old_positions) or not are_identical(pbc, old_pbc):
            return False
        if are_identical(cell, old_cell):
            moves, shrinking = positions - old_positions, 1.0
        elif np.all(pbc) and np.isfinite(cell).all():
            # Atoms that only follow the cell do not count as moved; all distances shrink at most by the smallest
            # singular value of the deformation.
            deformation = np.linalg.solve(old_cell, cell)
            moves = positions - old_positions @ deformation
            shrinking = min(1.0, np.linalg.svd(deformation, compute_uv=False)[-1])
        else:
            return False
        allowed = 0.5 * (shrinking * (self.cutoff + self.skin) - self.cutoff)
        if not allowed > 0.0:
            return False
        # Most steps are decided by the largest component, in a quarter of the time of the norms.
        if SQRT_3 * max(moves.max(), -moves.min()) < allowed:
            return True
        return float(np.einsum("ij,ij->i", moves, moves).max()) < allowed**2

    def _build(self, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> None:
        pairs, shifts, distances = self._search.compute(
            np.ascontiguousarray(positions), _search_cell(cell, pbc), pbc, "PSd", copy=False
        )
        closest = int(distances.argmin()) if len(distances) else -1
        if closest >= 0 and distances[closest] < SHORTEST_DISTANCE:
            i, j = pairs[closest]
            raise ValueError(
                f"atoms {i} and {j} stand at one place (distance {distances[closest]:g} Å, wanted at least "
                f"{SHORTEST_DISTANCE:g} Å)"
            )
        # Only now: a refused geometry leaves the list as it was, whole and valid near its reference.
        self.first, self.second = pairs.T.astype(np.int32)
        self.shifts = shifts.astype(np.int32)


def _check_geometry(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, reach: float) -> None:
    _check_positions(positions)
    if not np.isfinite(cell).all():
        raise ValueError(f"the cell must be finite, got {cell.tolist()}")
    vectors = cell[pbc]
    thicknesses = _thicknesses(vectors) if len(vectors) else np.empty(0)
    open_extents = np.ptp(positions @ np.linalg.inv(_search_cell(cell, pbc))[:, ~pbc], axis=0)
    largest = max(*thicknesses, *open_extents)
    if largest > LARGEST_EXTENT:
        raise ValueError(
            f"the system must not extend beyond {LARGEST_EXTENT:g} Å, got {largest:g} Å: has an atom flown away?"
        )
    n_cells = np.prod(
        1.0 + 2.0 * reach / thicknesses
    )  # how many copies of the cell are within reach
    if n_cells > MOST_CELLS or _mean_neighbors(len(positions), vectors, reach) > MOST_NEIGHBORS:
        raise ValueError(
            f"{len(positions)} atoms in the cell {cell.tolist()} Å are too dense: about {n_cells:.0f} copies of the "
            f"cell lie within {reach:g} Å; are these lengths in Å?"
        )


def _mean_neighbors(n_atoms: int, vectors: np.ndarray, reach: float) -> float:
    """Atoms in a sphere, for systems that are periodic in all directions; 0 for others."""
    if len(vectors) < 3:
        return 0.0
    return n_atoms / abs(np.linalg.det(vectors)) * 4.0 / 3.0 * np.pi * reach**3


def _search_cell(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The periodic vectors, and unit vectors at right angles to them in the open directions."""
    return complete_cell(np.where(pbc[:, None], cell, 0.0))


def _check_positions(positions: np.ndarray) -> None:
    if len(positions) == 0:
        raise ValueError("there are no atoms to evaluate")
    is_good = np.abs(positions).max(axis=1) < LARGEST_COORDINATE  # written so that NaN fails too
    if not is_good.all():
        i = int(np.argmin(is_good))
        raise ValueError(
            f"positions must be finite and below {LARGEST_COORDINATE:g} Å, got {positions[i].tolist()} for atom {i}"
        )


def _thicknesses(vectors: np.ndarray) -> np.ndarray:
    """Distances between the faces that periodic vectors span, Å; raises if there is no volume between them."""
    if np.abs(vectors).max() > LARGEST_COORDINATE:
        raise ValueError(
            f"cell vectors must be below {LARGEST_COORDINATE:g} Å, got {vectors.tolist()}"
        )
    if not _span_volume(vectors):
        raise ValueError(f"a periodic cell needs a volume, got the vectors {vectors.tolist()} Å")
    return 1.0 / np.linalg.norm(np.linalg.pinv(vectors), axis=0)


def _span_volume(vectors: np.ndarray) -> bool:
    """Whether vectors have lengths and are not linearly dependent to within rounding."""
    lengths = np.linalg.norm(vectors, axis=1)
    if lengths.min() < 1e-6:
        return False
    unit = vectors / lengths[:, None]
    return bool(np.linalg.det(unit @ unit.T) > 1e-14)


def cell_volume(cell: np.ndarray, pbc: np.ndarray) -> float:
    """Volume of a cell in Å³; 0 if its vectors do not span one, as those of open directions may not.

    A cell that is periodic in all directions has been checked by `VerletList`.
    """
    if all(pbc.tolist()):  # a tenth of the time of pbc.all()
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = cell.tolist()
        return abs(ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx))
    is_cell = np.abs(cell).max() < LARGEST_COORDINATE and _span_volume(cell)
    return abs(float(np.linalg.det(cell))) if is_cell else 0.0
