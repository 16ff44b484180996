"""A reference that misbehaves while a file is there; loaded by import path in worker processes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT


class MoodyEMT(EMT):
    """EMT that, while the file `refuse` exists, does what it says: ``hang``, ``nonsense``, or else it refuses."""

    def __init__(self, refuse: str) -> None:
        super().__init__()
        self.refuse = Path(refuse)

    def calculate(self, atoms: Atoms | None = None, *arguments: Any) -> None:
        mood = self.refuse.read_text() if self.refuse.exists() else "good"
        if mood == "hang":
            time.sleep(3600)
        if mood not in ("good", "nonsense"):
            raise RuntimeError("not in the mood")
        super().calculate(atoms, *arguments)
        if mood == "nonsense":
            self.results["forces"] = np.full_like(self.results["forces"], np.nan)


def moody_emt(refuse: str) -> MoodyEMT:
    """Return the calculator."""
    return MoodyEMT(refuse)


class PickyEMT(EMT):
    """EMT that refuses cells below a volume, Å³."""

    def __init__(self, smallest_volume: float) -> None:
        super().__init__()
        self.smallest_volume = smallest_volume

    def calculate(self, atoms: Atoms | None = None, *arguments: Any) -> None:
        if atoms is not None and atoms.get_volume() < self.smallest_volume:
            raise RuntimeError("too small a cell")
        super().calculate(atoms, *arguments)


def picky_emt(smallest_volume: float) -> PickyEMT:
    """Return the calculator."""
    return PickyEMT(smallest_volume)
