"""A reference that misbehaves while a file is there; loaded by import path in worker processes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import SCFError
from ase.calculators.emt import EMT


class MoodyEMT(EMT):
    """EMT that, while the file `refuse` exists, does what it says: ``hang``, ``nonsense``, ``diverge``, or refuse."""

    def __init__(self, refuse: str) -> None:
        super().__init__()
        self.refuse = Path(refuse)

    def calculate(self, atoms: Atoms | None = None, *arguments: Any) -> None:
        mood = self.refuse.read_text() if self.refuse.exists() else "good"
        if mood == "hang":
            time.sleep(3600)
        if mood == "diverge":
            raise SCFError("no convergence after 100 iterations")
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


class CursedEMT(EMT):
    """EMT that never converges for the structures in a file, to which it adds the first that it is asked for."""

    def __init__(self, curse: str, n_cursed: int) -> None:
        super().__init__()
        self.curse = Path(curse)
        self.n_cursed = n_cursed

    def calculate(self, atoms: Atoms | None = None, *arguments: Any) -> None:
        assert atoms is not None
        mine = np.array2string(atoms.positions, precision=6)
        cursed = self.curse.read_text().split("\n\n") if self.curse.exists() else []
        if mine not in cursed and len(cursed) < self.n_cursed:
            cursed.append(mine)
            self.curse.write_text("\n\n".join(cursed))
        if mine in cursed:
            raise SCFError("no convergence after 100 iterations")
        super().calculate(atoms, *arguments)


def cursed_emt(curse: str, n_cursed: int) -> CursedEMT:
    """Return the calculator."""
    return CursedEMT(curse, n_cursed)
