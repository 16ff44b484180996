"""Thresholds that are calibrated on the true errors seen so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qnep._optional import require

N_MINIMUM = 5  # true errors before the first calibration
N_MEMORY = 200  # of the latest true errors; older ones belong to worse models
SMALLEST_MEASURE = 1e-12
ROUNDING = 1e-9


class AdaptiveThreshold:
    """The measure of uncertainty at which the true error is likely to reach what is tolerated.

    Each time a reference calculation was made, the measure of the gate and the true error of the same frame are
    remembered. The threshold is the larger of two estimates of where, with the default quantile of 0.8, four in five
    frames that just pass are better than tolerated:

    - ``tolerated error / quantile of (true error / measure)``, as if error and measure were proportional. It reaches
      beyond the measures seen so far, but is too cautious where the error hardly grows with the measure;
    - the largest measure seen at which the share of frames worse than tolerated, as a function that only grows with the
      measure (isotonic regression), is still at most 1 - quantile.

    Parameters
    ----------
    tolerated_error : eV/Å, largest force error of an atom.
    initial : threshold until five true errors are known, in the unit of the measure.
    lower, upper : the threshold stays between them; equal ones fix it.
    quantile : of the ratios.

    Raises
    ------
    ValueError : not ``0 < lower <= initial <= upper``, an error that is not positive, or a quantile outside 0 to 1.
    """

    def __init__(
        self,
        tolerated_error: float,
        initial: float,
        lower: float,
        upper: float,
        quantile: float = 0.8,
    ) -> None:
        if not 0 < lower <= initial <= upper < np.inf:
            raise ValueError(
                f"thresholds must satisfy 0 < lower <= initial <= upper, got {lower:g}, {initial:g}, {upper:g}"
            )
        if not tolerated_error > 0:
            raise ValueError(
                f"the tolerated force error must be positive, got {tolerated_error:g} eV/Å"
            )
        if not 0 < quantile < 1:
            raise ValueError(f"the quantile must lie between 0 and 1, got {quantile:g}")
        self.tolerated_error = tolerated_error
        self.initial, self.lower, self.upper = initial, lower, upper
        self.quantile = quantile
        self._pairs: list[tuple[float, float]] = []
        self._value: float | None = (
            initial  # None: to be calculated, which takes as long as a look at a small system
        )

    @property
    def n_errors(self) -> int:
        """Number of true errors that the threshold rests on."""
        return len(self._pairs)

    @property
    def value(self) -> float:
        """The threshold now."""
        if self._value is None:
            self._value = self._calibrated()
        return self._value

    @property
    def is_adaptive(self) -> bool:
        """Whether it can change, which needs scikit-learn."""
        return self.lower < self.upper

    def _calibrated(self) -> float:
        if self.n_errors < N_MINIMUM or not self.is_adaptive:
            return self.initial
        measures, errors = np.array(self._pairs).T
        ratio = np.quantile(errors / np.maximum(measures, SMALLEST_MEASURE), self.quantile)
        if ratio <= 0:
            return self.upper
        estimate = max(self.tolerated_error / ratio, self._proven(measures, errors))
        return float(np.clip(estimate, self.lower, self.upper))

    def _proven(self, measures: np.ndarray, errors: np.ndarray) -> float:
        """Return the largest measure seen up to which enough frames are better than tolerated, 0 if none is."""
        is_worse = (errors > self.tolerated_error).astype(float)
        regression = require("sklearn.isotonic", extra="learn").IsotonicRegression()
        share = regression.fit_transform(measures, is_worse)
        return float(measures[share <= 1.0 - self.quantile + ROUNDING].max(initial=0.0))

    def add(self, measure: float, error: float) -> None:
        """Remember the measure of a frame and the true error found there, eV/Å; nonsense is left out."""
        if np.isfinite(measure) and np.isfinite(error) and measure > 0:
            self._pairs = [*self._pairs, (float(measure), float(error))][-N_MEMORY:]
            self._value = None

    def as_dict(self) -> dict[str, Any]:
        """Return what was seen so far, for JSON."""
        return {"pairs": [list(pair) for pair in self._pairs]}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Take back what `as_dict` returned."""
        self._pairs = [(measure, error) for measure, error in values["pairs"]]
        self._value = None
