"""What the tests of labelling share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule


@pytest.fixture(autouse=True)
def _fakes_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fakes:treacherous` names tests/dft/fakes.py, here and in worker processes."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def water() -> Atoms:
    """One water molecule in a box of 7 Å."""
    atoms = molecule("H2O")
    atoms.set_cell([7.0, 7.0, 7.0])
    atoms.center()
    atoms.pbc = True
    return atoms


@pytest.fixture
def numbered_pairs() -> Callable[[int], list[Atoms]]:
    """Makes argon pairs whose first atom says which frame it is: x = 0.01 k Å."""

    def make(n_frames: int) -> list[Atoms]:
        separations = np.linspace(2.4, 3.4, n_frames)
        return [
            Atoms(
                "Ar2", [[0.01 * k, 0, 0], [0.01 * k, 0, separations[k]]], cell=[50, 9, 9], pbc=True
            )
            for k in range(n_frames)
        ]

    return make
