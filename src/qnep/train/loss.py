"""The loss: weighted mean square errors of a batch, each measured in units of its current root mean square."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from qnep.train.batch import Batch
from qnep.train.forward import Prediction
from qnep.train.settings import LossWeights

#: Names of the terms; units of their errors: eV/atom, eV/Å, eV/atom, e/atom, e, e Å/atom.
TERMS = ("energy", "force", "virial", "charge", "born", "dipole")
SMALLEST_SCALE = {
    "energy": 1e-5,
    "force": 1e-3,
    "virial": 1e-4,
    "charge": 1e-3,
    "born": 1e-3,
    "dipole": 1e-4,
}
"""Errors below these are noise of single precision or of the references and get no more weight."""
_SHEAR = (1, 2, 3, 5, 6, 7)  # off-diagonal components of a row-major tensor


@dataclass
class ErrorSums:
    """Sums of squared errors of each term and the numbers of errors in them; batches can be added.

    squares, counts : as the loss counts them, with all weights.
    plain_squares, plain_counts : of all errors with a reference alike, in the units of `TERMS`, for people.
    """

    squares: dict[str, Any] = field(default_factory=dict)  # tensors without axes, or numbers
    counts: dict[str, float] = field(default_factory=dict)
    plain_squares: dict[str, Any] = field(default_factory=dict)
    plain_counts: dict[str, float] = field(default_factory=dict)

    def add(self, other: ErrorSums) -> None:
        """Add the sums of another batch, without its graph."""
        for mine, theirs in (
            (self.squares, other.squares),
            (self.plain_squares, other.plain_squares),
        ):
            for term, value in theirs.items():
                number = torch.as_tensor(value, dtype=torch.float64).detach()
                mine[term] = mine.get(term, 0.0) + number
        for mine, theirs in ((self.counts, other.counts), (self.plain_counts, other.plain_counts)):
            for term, count in theirs.items():
                mine[term] = mine.get(term, 0.0) + count

    def _converted(self, function: Callable[[Any], Any]) -> ErrorSums:
        return ErrorSums(
            {term: function(value) for term, value in self.squares.items()},
            dict(self.counts),
            {term: function(value) for term, value in self.plain_squares.items()},
            dict(self.plain_counts),
        )

    def detached(self) -> ErrorSums:
        """Return the sums without their graph."""
        return self._converted(torch.Tensor.detach)

    def as_numbers(self) -> ErrorSums:
        """Return the sums as Python numbers: tensors are sent between processes by files, milliseconds each."""
        return self._converted(float)

    def root_mean_squares(self) -> dict[str, float]:
        """Return the weighted root mean square error of each term that has references."""
        return _root_means(self.squares, self.counts)

    def plain_root_mean_squares(self) -> dict[str, float]:
        """Return the root mean square error of each term that has references, units as in `TERMS`."""
        return _root_means(self.plain_squares, self.plain_counts)


def _root_means(squares: Mapping[str, Any], counts: Mapping[str, float]) -> dict[str, float]:
    return {
        term: float(value / counts[term]) ** 0.5
        for term, value in squares.items()
        if counts[term] > 0
    }


@dataclass
class _TermErrors:
    """Errors of one term in a batch; axes of weights of length 1 broadcast.

    errors : with the factors that the loss gives to components.
    weights : of their squares in the loss.
    is_atomic : whether the first axis is atoms, not structures.
    plain : errors without such factors, if they are others.
    references : positive where there is a reference that counts, if these are not the positive weights.
    """

    errors: torch.Tensor
    weights: torch.Tensor
    is_atomic: bool = False
    plain: torch.Tensor | None = None
    references: torch.Tensor | None = None


class Loss:
    """Sums the errors of a prediction.

    Parameters
    ----------
    weights : see LossWeights.
    scales : root mean square error of each term, the unit of its errors; the trainer renews it every epoch. The
        gradient is then that of the sum of lambda x RMSE, GPUMD's loss, but the sum over structures stays a plain sum.
    """

    def __init__(self, weights: LossWeights, scales: Mapping[str, float] | None = None) -> None:
        self.weights = weights
        self.scales = dict.fromkeys(TERMS, 1.0)
        if scales:
            self.rescale(scales)

    def rescale(self, scales: Mapping[str, float]) -> None:
        """Set the unit of each term."""
        for term, scale in scales.items():
            self.scales[term] = max(scale, SMALLEST_SCALE[term])

    def active_terms(self) -> list[str]:
        """Return the terms that count."""
        return [term for term in TERMS if getattr(self.weights, term) > 0]

    def sums(
        self, prediction: Prediction, batch: Batch, factors: torch.Tensor | None = None
    ) -> ErrorSums:
        """Return the sums of squared errors of a batch.

        factors : of each structure of the data set, indexed by `batch.frame_numbers`; None: all 1.
        """
        of_frames = None if factors is None else factors[batch.frame_numbers]
        sums = ErrorSums()
        for term, part in self._errors(prediction, batch).items():
            factor = torch.ones((), device=part.weights.device)
            if of_frames is not None:
                factor = of_frames[batch.frame_of_atom] if part.is_atomic else of_frames
                factor = factor.view(-1, *(1,) * (part.weights.ndim - 1))
            weights = part.weights * factor
            threshold = self.weights.huber * self.scales[term]
            sums.squares[term] = (weights * self._square(part.errors, threshold)).sum()
            sums.counts[term] = _count(weights, part.errors)
            references = part.weights if part.references is None else part.references
            plain = (part.errors if part.plain is None else part.plain).detach()
            counted = references * factor > 0
            sums.plain_squares[term] = (counted * plain * plain).sum()
            sums.plain_counts[term] = _count(counted, plain)
        return sums

    def counts(self, batch: Batch, with_charges: bool) -> dict[str, float]:
        """Return the number of references of each term in a batch."""
        labels = batch.labels
        counts = {
            "energy": float((labels.energy_weights > 0).sum()),
            "force": 3.0 * float((self._force_weights(batch) > 0).sum()),
            "virial": 9.0 * float((labels.virial_weights > 0).sum()),
        }
        if with_charges:
            counts["charge"] = float(batch.n_frames)
            counts["born"] = 9.0 * float((labels.born_weights[batch.frame_of_atom] > 0).sum())
            counts["dipole"] = 3.0 * float((labels.dipole_weights > 0).sum())
        return counts

    def value(self, sums: ErrorSums, counts: Mapping[str, float]) -> torch.Tensor:
        """Return the loss of sums; `counts` are those of the whole batch, if this is a part of it."""
        total = sum(
            getattr(self.weights, term)
            / (2 * self.scales[term])
            * sums.squares[term]
            / max(counts[term], 1.0)
            for term in self.active_terms()
            if term in sums.squares
        )
        return torch.as_tensor(total)

    @staticmethod
    def _square(error: torch.Tensor, threshold: float) -> torch.Tensor:
        if threshold <= 0:
            return error * error
        size = error.abs()
        return torch.where(size < threshold, error * error, threshold * (2 * size - threshold))

    def _errors(self, prediction: Prediction, batch: Batch) -> dict[str, _TermErrors]:
        """Return the errors of each term."""
        labels, n_atoms = batch.labels, batch.atoms_per_frame
        virials = (prediction.virials - labels.virials) / n_atoms[:, None]
        errors = {
            "energy": _TermErrors(
                (prediction.energies - labels.energies) / n_atoms, labels.energy_weights
            ),
            "force": _TermErrors(
                prediction.forces - labels.forces,
                self._force_weights(batch)[:, None],
                is_atomic=True,
                references=labels.force_weights[:, None],
            ),
            "virial": _TermErrors(
                self._shear(virials), labels.virial_weights[:, None], plain=virials
            ),
        }
        if prediction.raw_charges is not None:
            sums = torch.zeros_like(labels.charges).index_add(
                0, batch.frame_of_atom, prediction.raw_charges
            )
            errors["charge"] = _TermErrors((sums - labels.charges) / n_atoms, torch.ones_like(sums))
        if prediction.born_charges is not None and labels.born_charges is not None:
            weight = labels.born_weights[batch.frame_of_atom]
            errors["born"] = _TermErrors(
                prediction.born_charges - labels.born_charges, weight[:, None], is_atomic=True
            )
        if prediction.dipoles is not None and labels.dipoles is not None:
            difference = (prediction.dipoles - labels.dipoles) / n_atoms[:, None]
            errors["dipole"] = _TermErrors(difference, labels.dipole_weights[:, None])
        return errors

    def _shear(self, errors: torch.Tensor) -> torch.Tensor:
        if self.weights.shear == 1.0:
            return errors
        factors = torch.ones_like(errors)
        factors[:, list(_SHEAR)] = self.weights.shear
        return errors * factors

    def _force_weights(self, batch: Batch) -> torch.Tensor:
        weights = batch.labels.force_weights
        if self.weights.elements:
            factors = torch.tensor(
                self.weights.elements, dtype=weights.dtype, device=weights.device
            )
            weights = weights * factors[batch.type_of_atom] ** 2
        delta = self.weights.force_delta
        if delta > 0:
            weights = weights * delta / (delta + batch.labels.forces.norm(dim=1))
        return weights


def _count(weights: torch.Tensor, errors: torch.Tensor) -> float:
    """Return the number of errors whose weight, which may broadcast, is positive."""
    return float((weights > 0).sum() * (errors.numel() // max(weights.numel(), 1)))
