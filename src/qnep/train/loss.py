"""The loss: weighted mean square errors of a batch, each measured in units of its current root mean square."""

from __future__ import annotations

from collections.abc import Mapping
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
    """Sums of weighted squared errors of each term and the numbers of errors in them; batches can be added."""

    squares: dict[str, Any] = field(default_factory=dict)  # tensors without axes, or numbers
    counts: dict[str, float] = field(default_factory=dict)

    def add(self, other: ErrorSums) -> None:
        """Add the sums of another batch, without its graph."""
        for term, value in other.squares.items():
            number = torch.as_tensor(value).detach().double()
            self.squares[term] = self.squares.get(term, 0.0) + number
            self.counts[term] = self.counts.get(term, 0.0) + other.counts[term]

    def detached(self) -> ErrorSums:
        """Return the sums without their graph."""
        return ErrorSums(
            {term: value.detach() for term, value in self.squares.items()}, dict(self.counts)
        )

    def as_numbers(self) -> ErrorSums:
        """Return the sums as Python numbers: tensors are sent between processes by files, milliseconds each."""
        return ErrorSums(
            {term: float(value) for term, value in self.squares.items()}, dict(self.counts)
        )

    def root_mean_squares(self) -> dict[str, float]:
        """Return the weighted root mean square error of each term that has references."""
        return {
            term: float(value / self.counts[term]) ** 0.5
            for term, value in self.squares.items()
            if self.counts[term] > 0
        }


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
        for term, (error, weight, is_atomic) in self._errors(prediction, batch).items():
            if of_frames is not None:
                factor = of_frames[batch.frame_of_atom] if is_atomic else of_frames
                weight = weight * factor.view(-1, *(1,) * (weight.ndim - 1))
            sums.squares[term] = (
                weight * self._square(error, self.weights.huber * self.scales[term])
            ).sum()
            sums.counts[term] = float(
                (weight > 0).sum() * (error.numel() // max(weight.numel(), 1))
            )
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

    def _errors(
        self, prediction: Prediction, batch: Batch
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor, bool]]:
        """Return errors, weights of their squares (axes of length 1 broadcast), and whether the first axis is atoms."""
        labels, n_atoms = batch.labels, batch.atoms_per_frame
        shear = self._shear(prediction.virials - labels.virials) / n_atoms[:, None]
        errors = {
            "energy": (
                (prediction.energies - labels.energies) / n_atoms,
                labels.energy_weights,
                False,
            ),
            "force": (prediction.forces - labels.forces, self._force_weights(batch)[:, None], True),
            "virial": (shear, labels.virial_weights[:, None], False),
        }
        if prediction.raw_charges is not None:
            sums = torch.zeros_like(labels.charges).index_add(
                0, batch.frame_of_atom, prediction.raw_charges
            )
            errors["charge"] = ((sums - labels.charges) / n_atoms, torch.ones_like(sums), False)
        if prediction.born_charges is not None and labels.born_charges is not None:
            weight = labels.born_weights[batch.frame_of_atom]
            errors["born"] = (prediction.born_charges - labels.born_charges, weight[:, None], True)
        if prediction.dipoles is not None and labels.dipoles is not None:
            difference = (prediction.dipoles - labels.dipoles) / n_atoms[:, None]
            errors["dipole"] = (difference, labels.dipole_weights[:, None], False)
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
