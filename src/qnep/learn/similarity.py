"""Screen: has an environment like this been labelled already?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from qnep.learn.finding import Finding, Observation, worst_first

ROWS_AT_ONCE = 256
"""Environments that are compared with each other before they are kept."""
ROUNDING = 1e-9  # far above that of distances, far below any spacing of use
SPACING = 0.5
"""Distance of kept environments in thresholds: any labelled one is so near to a kept one, and so counts as known."""


class Environments:
    """Labelled environments by element, thinned by distance.

    The distance of two is the root mean square over the components of their feature vectors. One is kept if it is
    farther than `spacing` from all that were kept before, so that in the end none is farther than that from a kept one.

    Parameters
    ----------
    spacing : in the unit of the features; 0 keeps all but equal ones.
    """

    def __init__(self, spacing: float) -> None:
        self._spacing = spacing
        self._kept: dict[str, _Kept] = {}

    @property
    def counts(self) -> dict[str, int]:
        """Number of environments kept of each element."""
        return {element: len(kept.vectors) for element, kept in self._kept.items()}

    def add(self, features: np.ndarray, symbols: Sequence[str]) -> None:
        """Add environments: (n_atoms, n_features) and their elements. One by one or all at once, the same are kept."""
        names = np.asarray(symbols)
        for element in sorted(set(symbols)):
            kept = self._kept.setdefault(element, _Kept(features.shape[1]))
            vectors = features[names == element]
            for start in range(0, len(vectors), ROWS_AT_ONCE):
                block = vectors[start : start + ROWS_AT_ONCE]
                # How far beyond the spacing need not be known; so the search ends sooner.
                is_new = kept.distances(block, self._spacing + ROUNDING) > self._spacing
                block = block[is_new]
                kept.add(block[_apart(block, self._spacing)])

    def distances(self, features: np.ndarray, symbols: Sequence[str]) -> np.ndarray:  # [n_atoms]
        """Return the distance of each atom to the nearest kept environment; infinite for a new element."""
        names = np.asarray(symbols)
        result = np.full(len(names), np.inf)
        for element in sorted(set(symbols) & self._kept.keys()):
            here = names == element
            result[here] = self._kept[element].distances(features[here])
        return result


class SimilarityScreen:
    """Distance of environments to the nearest known one of the same element, in scaled descriptors.

    Known are all that are nearer than the threshold to a kept one of `Environments`; that holds for each labelled one.

    Parameters
    ----------
    threshold : environments nearer than this to a known one count as seen, in units of the spread of the data.

    Raises
    ------
    ValueError : a threshold that is not positive.
    """

    name = "similarity"

    def __init__(self, threshold: float) -> None:
        if not (threshold > 0 and np.isfinite(threshold)):
            raise ValueError(f"the similarity threshold must be positive, got {threshold:g}")
        self.threshold = threshold
        self.forget()

    @property
    def n_environments(self) -> dict[str, int]:
        """Number of environments kept of each element."""
        return self._known.counts

    def forget(self) -> None:
        """Know nothing, as before features of another model are added."""
        self._known = Environments(SPACING * self.threshold)

    def add(self, features: np.ndarray, symbols: Sequence[str]) -> None:
        """Add the environments of labelled atoms: (n_atoms, n_features) and their elements."""
        self._known.add(features, symbols)

    def judge(self, observation: Observation, atoms: Sequence[int] = ()) -> Finding:
        """Say whether some atoms, all by default, are unlike everything known; fires if one is."""
        chosen = np.array(atoms, int) if len(atoms) else np.arange(len(observation.atoms))
        symbols = np.array(observation.atoms.get_chemical_symbols())[chosen]
        distances = self._known.distances(observation.features[chosen], list(symbols))
        value = float(distances.max())
        new = tuple(int(chosen[k]) for k in worst_first(distances, self.threshold))
        note = f"nearest known environments of {len(chosen)} atoms"
        return Finding(self.name, value, self.threshold, "", bool(new), new, note)


class _Kept:
    """Feature vectors of one element: a tree of most, which is made anew from time to time, and the latest."""

    def __init__(self, n_features: int) -> None:
        self.vectors = np.empty((0, n_features))
        self._tree = cKDTree(self.vectors)

    def add(self, vectors: np.ndarray) -> None:
        self.vectors = np.vstack([self.vectors, vectors])
        # A tree costs its size to make, so it may wait until it would grow by a tenth.
        if len(self.vectors) - self._tree.n > max(ROWS_AT_ONCE, self._tree.n / 10):
            self._tree = cKDTree(self.vectors)

    def distances(self, vectors: np.ndarray, limit: float = np.inf) -> np.ndarray:  # [n_vectors]
        """Return the distance of each vector to the nearest one here; infinite for one that is not all numbers.

        Those beyond the limit may be infinite too.
        """
        result = np.full(len(vectors), np.inf)
        bound = limit * np.sqrt(self.vectors.shape[1])
        is_finite = np.isfinite(vectors).all(axis=1)
        finite, latest = vectors[is_finite], self.vectors[self._tree.n :]
        if self._tree.n:
            result[is_finite] = self._tree.query(finite, distance_upper_bound=bound)[0]
        if len(latest):
            result[is_finite] = np.minimum(result[is_finite], cdist(finite, latest).min(axis=1))
        return result / np.sqrt(self.vectors.shape[1])


def _apart(vectors: np.ndarray, spacing: float) -> np.ndarray:  # [n_vectors]
    """Return which vectors to keep: in their order, each that is farther than `spacing` from those kept before it."""
    is_near = cdist(vectors, vectors) <= spacing * np.sqrt(vectors.shape[1])
    is_kept = np.isfinite(vectors).all(axis=1)
    for k in range(len(vectors)):
        if is_kept[k]:
            is_kept[k + 1 :] &= ~is_near[k, k + 1 :]
    return is_kept
