"""The total charge that a structure names in its comment line, for labels, training and evaluation alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

KEYS = ("charge", "total_charge")
"""GPUMD's word, which qnep writes, and that of the settings of a reference calculation."""


def total_charge_in(info: Mapping[str, Any]) -> float | None:
    """Return the charge of the cell, e, from the `info` of a structure; None where it names none.

    Raises
    ------
    ValueError : not a finite number, or two words that contradict each other.
    """
    charges = {key: _number(key, info[key]) for key in KEYS if info.get(key) is not None}
    if len(set(charges.values())) > 1:
        raise ValueError(
            "charge and total_charge are two words for one thing, got "
            + " and ".join(f"{key}={value:g}" for key, value in charges.items())
        )
    return next(iter(charges.values()), None)


def _number(key: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise ValueError(f"{key} must be a number, got {value!r}")
    return number
