"""Thresholds that are calibrated on the true errors seen so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

N_MINIMUM = 5  # true errors before the first calibration
N_MEMORY = 200  # of the latest true errors; older ones belong to worse models
SMALLEST_MEASURE = 1e-12


class AdaptiveThreshold:
    """The measure of uncertainty at which the true error is likely to reach what is tolerated.

    Each time a reference calculation was made, the measure of the gate and the true error of the same frame are
    remembered. The threshold is ``tolerated error / quantile of (true error / measure)``: with the default of 0.8, four
    in five frames that just pass are better than tolerated, if error and measure are proportional.

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

    @property
    def n_errors(self) -> int:
        """Number of true errors that the threshold rests on."""
        return len(self._pairs)

    @property
    def value(self) -> float:
        """The threshold now."""
        if self.n_errors < N_MINIMUM:
            return self.initial
        measures, errors = np.array(self._pairs).T
        ratio = np.quantile(errors / np.maximum(measures, SMALLEST_MEASURE), self.quantile)
        if ratio <= 0:
            return self.upper
        return float(np.clip(self.tolerated_error / ratio, self.lower, self.upper))

    def add(self, measure: float, error: float) -> None:
        """Remember the measure of a frame and the true error found there, eV/Å; nonsense is left out."""
        if np.isfinite(measure) and np.isfinite(error) and measure > 0:
            self._pairs = [*self._pairs, (float(measure), float(error))][-N_MEMORY:]

    def as_dict(self) -> dict[str, Any]:
        """Return what was seen so far, for JSON."""
        return {"pairs": [list(pair) for pair in self._pairs]}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Take back what `as_dict` returned."""
        self._pairs = [(measure, error) for measure, error in values["pairs"]]
