"""What is checked before a label is accepted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qnep.dft.label import Label, Limits, RejectedLabel, accept

N_ATOMS = 4
GOOD = {"energy": -1.0, "forces": np.zeros((N_ATOMS, 3)), "stress": np.zeros(6)}


def make_label(**changes) -> Label:
    return Label(**{**GOOD, **changes}, level="LJ", kpts="1x1x1")


@pytest.mark.parametrize("stress", [np.zeros(6), None])
def test_a_good_label_is_accepted(stress):
    assert accept(make_label(stress=stress), N_ATOMS, Limits()).energy == -1.0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"forces": np.zeros((3, 3))}, r"forces must have shape \(4, 3\), got \(3, 3\)"),
        ({"forces": np.zeros((1, 3))}, r"forces must have shape \(4, 3\), got \(1, 3\)"),
        ({"forces": np.zeros(12)}, r"forces must have shape \(4, 3\), got \(12,\)"),
        ({"forces": np.full((N_ATOMS, 3), np.nan)}, "energy or forces are not finite"),
        ({"energy": math.inf}, "energy or forces are not finite"),
        ({"stress": np.zeros((3, 3))}, r"stress must have shape \(6,\), got \(3, 3\)"),
        ({"stress": np.array([0, 0, math.nan, 0, 0, 0])}, "stress must be finite or absent, got"),
    ],
)
def test_numbers_that_nobody_can_train_on_are_rejected(changes, text):
    with pytest.raises(RejectedLabel, match=text):
        accept(make_label(**changes), N_ATOMS, Limits())


@pytest.mark.parametrize("name", ["net_force", "force"])
@pytest.mark.parametrize("limit", [math.nan, -1.0, 0.0])
def test_a_limit_is_positive(name, limit):
    """No force is larger than NaN: such a limit would switch the check off."""
    with pytest.raises(ValueError, match=f"limit {name} of a label must be positive .* {limit:g} "):
        Limits(**{name: limit})


def test_an_infinite_limit_is_none():
    forces = np.full((N_ATOMS, 3), 1e6)
    accept(make_label(forces=forces), N_ATOMS, Limits(net_force=math.inf, force=math.inf))
