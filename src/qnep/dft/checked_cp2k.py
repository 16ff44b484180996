"""ASE's CP2K calculator that also knows whether the density converged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ase.calculators.cp2k import CP2K

NOT_CONVERGED = b"SCF run NOT converged"
"""In the log of all versions; older ones then go on with the density they have, later ones abort."""


class CheckedCP2K(CP2K):
    """CP2K with the attribute `converged` of the last calculation, which is read from its log.

    Parameters
    ----------
    label : path of the files, without ending; a log of before is removed.
    keywords : as of ASE's calculator.
    """

    def __init__(self, label: str, **keywords: Any) -> None:
        self.converged = True
        self._log = Path(f"{label}.out")
        self._log.unlink(missing_ok=True)
        super().__init__(label=label, **keywords)

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        """Fill `results` and `converged`; called by ASE."""
        n_read = len(self._read_log())
        try:
            super().calculate(*arguments, **keywords)
        finally:  # versions that abort have written it too
            self.converged = NOT_CONVERGED not in self._read_log()[n_read:]

    def _read_log(self) -> bytes:
        return self._log.read_bytes() if self._log.exists() else b""
