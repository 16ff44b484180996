"""Screen: has an environment like this been labelled already?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qnep.learn.finding import Finding, Observation, worst_first

MOST_ENVIRONMENTS = 1000
"""Of an element that are kept for comparison, so that a look takes no longer as the pool grows."""
ROWS_AT_ONCE = 256


class SimilarityScreen:
    """Distance of environments to the nearest known one of the same element.

    The distance is the root mean square over the components of the scaled descriptors. Known environments are thinned
    by farthest-point sampling to at most 1000 for each element.

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
        self._known: dict[str, np.ndarray] = {}

    @property
    def n_environments(self) -> dict[str, int]:
        """Number of environments kept of each element."""
        return {element: len(vectors) for element, vectors in self._known.items()}

    def forget(self) -> None:
        """Know nothing, as before features of another model are added."""
        self._known = {}

    def add(self, features: np.ndarray, symbols: Sequence[str]) -> None:
        """Add the environments of labelled atoms: (n_atoms, n_features) and their elements."""
        names = np.asarray(symbols)
        for element in sorted(set(symbols)):
            vectors = features[names == element]
            if element in self._known:
                vectors = np.vstack([self._known[element], vectors])
            if len(vectors) > MOST_ENVIRONMENTS:
                vectors = vectors[farthest_points(vectors, MOST_ENVIRONMENTS)]
            self._known[element] = vectors

    def distances(self, features: np.ndarray, symbols: Sequence[str]) -> np.ndarray:  # [n_atoms]
        """Return the distance of each atom to the nearest known environment; infinite for a new element."""
        names = np.asarray(symbols)
        result = np.full(len(names), np.inf)
        for element in sorted(set(symbols)):
            if element in self._known:
                here = np.flatnonzero(names == element)
                result[here] = _nearest(features[here], self._known[element])
        return result

    def judge(self, observation: Observation, atoms: Sequence[int] = ()) -> Finding:
        """Say whether some atoms, all by default, are unlike everything known; fires if one is."""
        chosen = np.array(atoms, int) if len(atoms) else np.arange(len(observation.atoms))
        symbols = np.array(observation.atoms.get_chemical_symbols())[chosen]
        distances = self.distances(observation.features[chosen], list(symbols))
        value = float(distances.max())
        new = tuple(int(chosen[k]) for k in worst_first(distances, self.threshold))
        note = f"nearest known environments of {len(chosen)} atoms"
        return Finding(self.name, value, self.threshold, "", bool(new), new, note)


def farthest_points(points: np.ndarray, n_wanted: int) -> np.ndarray:  # [n_wanted]
    """Return the indices of points that cover all: each next one is the farthest from those before it.

    References
    ----------
    Gonzalez, Theor. Comput. Sci. 38, 293 (1985), doi:10.1016/0304-3975(85)90224-5
    """
    points = points - points.mean(axis=0)
    squares = (points**2).sum(axis=1)
    distances = np.full(len(points), np.inf)
    farthest, chosen = int(squares.argmax()), []
    for _ in range(min(n_wanted, len(points))):
        chosen.append(farthest)
        # The expanded square, one product of matrix and vector: this loop sees every environment of the pool.
        here = squares - 2 * (points @ points[farthest]) + squares[farthest]
        distances = np.minimum(distances, here)
        distances[farthest] = -np.inf  # rounding must not choose it again
        farthest = int(distances.argmax())
    return np.array(chosen)


def _nearest(vectors: np.ndarray, known: np.ndarray) -> np.ndarray:  # [n_vectors]
    """Root mean square distance to the nearest row, in blocks so that memory stays bounded."""
    squares = (known**2).sum(axis=1)
    nearest = []
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        block = vectors[start : start + ROWS_AT_ONCE]
        guess = (squares - 2 * block @ known.T).argmin(axis=1)
        # The expanded square loses half the digits; the distance itself is taken from the difference.
        nearest.append(((block - known[guess]) ** 2).mean(axis=1))
    return np.sqrt(np.concatenate(nearest)) if nearest else np.empty(0)
