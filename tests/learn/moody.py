"""A reference that fails while a file is there; loaded by import path in worker processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.emt import EMT


class MoodyEMT(EMT):
    """EMT that refuses while the file `refuse` exists."""

    def __init__(self, refuse: str) -> None:
        super().__init__()
        self.refuse = Path(refuse)

    def calculate(self, atoms: Atoms | None = None, *arguments: Any) -> None:
        if self.refuse.exists():
            raise RuntimeError("not in the mood")
        super().calculate(atoms, *arguments)


def moody_emt(refuse: str) -> MoodyEMT:
    """Return the calculator."""
    return MoodyEMT(refuse)
