"""Gate: extrapolation grade by D-optimality (MaxVol) on feature vectors."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from qnep.learn.finding import Finding, Observation, worst_first
from qnep.learn.threshold import AdaptiveThreshold
from qnep.model import Model
from qnep.train.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

FORMAT = 1
FLOOR = 0.05
"""Size of the rows that stand for directions without data, in units of the spread of the training data. A smaller
change in such a direction is not taken for an extrapolation."""
SWAP_GAIN = 1.01  # the volume must grow by this factor for a swap; ends the search


class ActiveSetError(ValueError):
    """An active set cannot be read, or belongs to another model."""


@dataclass
class ActiveSet:
    """For every element the environments that span the training data, and the grade of others with respect to them.

    The feature vector is extended by a constant one. For the square matrix A whose rows are the chosen vectors, the
    grade of a vector b is the largest component, by size, of ``b A⁻¹``: up to one (within SWAP_GAIN) for all training
    data, larger outside.

    Parameters
    ----------
    inverses : element -> (n_features + 1, n_features + 1) array, A⁻¹.
    digest : of the model that gave the features.

    References
    ----------
    Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171 (2017), doi:10.1016/j.commatsci.2017.08.031
    """

    inverses: dict[str, np.ndarray] = field(default_factory=dict)
    digest: str = ""

    @classmethod
    def fit(cls, features: Mapping[str, np.ndarray], digest: str = "") -> ActiveSet:
        """Return the active sets of feature vectors, element -> (n_environments, n_features)."""
        inverses = {}
        for element, vectors in features.items():
            rows = maximal_volume_rows(_extended(vectors), FLOOR)
            inverses[element] = np.linalg.inv(rows)
        return cls(inverses, digest)

    def grades(self, features: np.ndarray, symbols: Sequence[str]) -> np.ndarray:  # [n_atoms]
        """Return the grade of each atom; infinite for an element that the training data lack.

        Parameters
        ----------
        features : (n_atoms, n_features) array.
        symbols : element of each atom.
        """
        names = np.asarray(symbols)
        vectors = _extended(features)
        grades = np.full(len(names), np.inf)
        for element, inverse in self.inverses.items():
            here = names == element
            if here.any():
                grades[here] = np.abs(vectors[here] @ inverse).max(axis=1)
        return grades

    def save(self, path: Path) -> None:
        """Write an .npz file with ``inverse_X`` for each element X, and the digest of the model.

        With the scaled descriptors q of an atom X the grade is ``max(abs(concatenate([q, [1]]) @ inverse_X))``.
        """
        arrays = {f"inverse_{element}": inverse for element, inverse in self.inverses.items()}
        save_checkpoint(path, arrays, {"format": FORMAT, "digest": self.digest})

    def write_for_lammps(self, path: Path, model: Model) -> None:
        """Write the text file that the keyword ``grade`` of ``pair_style qnep`` reads.

        Parameters
        ----------
        model : that gave the features; LAMMPS refuses the file with another.

        Raises
        ------
        ActiveSetError : the matrices do not fit the model.
        """
        n = model.n_descriptors
        lines = [f"qnep_active_set {FORMAT}", f"model {_checksum(model):x}", f"features {n}"]
        for element, inverse in self.inverses.items():
            if inverse.shape != (n + 1, n + 1) or element not in model.elements:
                raise ActiveSetError(
                    f"the active set of {element} has the shape {inverse.shape}; the model knows "
                    f"{' '.join(model.elements)} and needs {(n + 1, n + 1)}"
                )
            lines.append(f"element {element}")
            lines += [" ".join(repr(float(value)) for value in row) for row in inverse]
        path.write_text("\n".join([*lines, "end", ""]))

    @classmethod
    def load(cls, path: Path, digest: str | None = None) -> ActiveSet:
        """Read a file.

        Raises
        ------
        ActiveSetError : not such a file, or made with another model than the one of `digest`.
        """
        try:
            arrays, meta = load_checkpoint(path)
        except CheckpointError as failure:
            raise ActiveSetError(f"{path} is not an active set: {failure}") from failure
        names = {name: name.partition("_")[2] for name in arrays}
        if meta.get("format") != FORMAT or not set(names.values()) <= atomic_numbers.keys():
            raise ActiveSetError(f"{path} is not an active set, or of another version of qnep")
        if digest is not None and digest != meta["digest"]:
            raise ActiveSetError(
                f"{path} was made with another model: {meta['digest']}, not {digest}"
            )
        return cls({names[name]: array for name, array in arrays.items()}, meta["digest"])


class ExtrapolationGrade:
    """Largest extrapolation grade of an atom."""

    name = "extrapolation grade"

    def __init__(self, threshold: AdaptiveThreshold, active_set: ActiveSet) -> None:
        self.threshold = threshold
        self.active_set = active_set

    def judge(self, observation: Observation) -> Finding:
        """Say how far outside the training data the atoms are."""
        grades = observation.results.get("grades")
        if grades is None:
            symbols = observation.atoms.get_chemical_symbols()
            grades = self.active_set.grades(observation.features, symbols)
        limit = self.threshold.value
        value = float(grades.max())
        return Finding(self.name, value, limit, "", value > limit, worst_first(grades, limit))


def maximal_volume_rows(candidates: np.ndarray, floor: float) -> np.ndarray:
    """Return a square matrix of rows with locally largest determinant.

    Begins with `floor` times the identity and swaps one row at a time for the candidate that gains most, until none
    gains more than SWAP_GAIN. Directions in which no candidate exceeds the floor keep their row of the identity.

    Parameters
    ----------
    candidates : (n_candidates, n) array.
    floor : in the units of the candidates.

    References
    ----------
    Goreinov et al., How to find a good submatrix (2010), doi:10.1142/9789812836021_0015
    """
    n = candidates.shape[1]
    rows = floor * np.eye(n)
    coefficients = candidates / floor  # candidates @ inv(rows), [n_candidates, n]
    while len(candidates):
        i, j = np.unravel_index(np.abs(coefficients).argmax(), coefficients.shape)
        gain = coefficients[i, j]
        if abs(gain) <= SWAP_GAIN:
            break
        rows[j] = candidates[i]
        change = coefficients[i].copy()
        change[j] -= 1.0
        coefficients -= np.outer(coefficients[:, j], change / gain)
    return rows


def _checksum(model: Model) -> int:
    """CRC-32 of the parameters as little-endian doubles, as `model_checksum` of the core."""
    return zlib.crc32(np.asarray(model.parameters, "<f8").tobytes())


def _extended(features: np.ndarray) -> np.ndarray:
    return np.hstack([features, np.ones((len(features), 1))])
