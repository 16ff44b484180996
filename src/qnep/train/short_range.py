"""Repulsion between atoms closer than any in the data, where a network alone would say anything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qnep.train import geometry
from qnep.train.frames import Frame

UNIVERSAL_SCREENING = (0.18175, 3.1998, 0.50986, 0.94229, 0.28022, 0.4029, 0.02817, 0.20162)
"""Amplitudes and decays of the universal screening function, as the public NEP codes have them."""
NUMBERS_PER_PAIR = 2 + len(UNIVERSAL_SCREENING)
INNER_SHARE = 0.5  # of the outer radius, within which the repulsion is full
MARGIN = 0.97  # of the shortest distance in the data
FRAMES_AT_ONCE = 16


def shortest_distances(frames: Sequence[Frame], n_types: int, cutoff: float) -> np.ndarray:
    """Return the shortest distance of each pair of types, [n_types, n_types], Å; the cutoff where there is none."""
    shortest = np.full((n_types, n_types), cutoff)
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        part = frames[start : start + FRAMES_AT_ONCE]
        order = geometry.order_atoms(part, n_types)
        pairs = geometry.find_pairs(part, order, np.full(n_types, cutoff))
        np.minimum.at(shortest, (order.types[pairs.first], pairs.types), pairs.distances)
    return shortest


def repulsion_below_data(frames: Sequence[Frame], n_types: int, cutoff: float) -> tuple[float, ...]:
    """Return the numbers of a flexible ZBL that begins just below the shortest distance of each pair in the data.

    It changes nothing that the data know, and keeps atoms out of where they know nothing. cutoff : Å, largest outer
    radius, for pairs that never meet. The order is that of the model file: ten numbers for each unordered pair.
    """
    shortest = np.minimum(MARGIN * shortest_distances(frames, n_types, cutoff), cutoff)
    numbers: list[float] = []
    for first in range(n_types):
        for second in range(first, n_types):
            outer = float(np.round(shortest[first, second], 3))
            numbers += [round(INNER_SHARE * outer, 3), outer, *UNIVERSAL_SCREENING]
    return tuple(numbers)
