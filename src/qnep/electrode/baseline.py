"""Charge equilibration at constant total charge, as a calculator of its own: what a potential may leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from qnep.calculator import mechanical_results
from qnep.electrode.parameters import ELEMENT_PARAMETERS, ElementParameters
from qnep.electrode.schemes import EquilibratedScheme, SolverSettings


class EquilibratedCharges(Calculator):
    """Energy of equilibrated Gaussian charges in a cell that is periodic in all directions.

    The labels of a potential for the scheme ``"equilibrated"`` are those of DFT less what this calculator gives; with
    ``baseline = "qnep.electrode.baseline:EquilibratedCharges"`` the trainer subtracts them. The total charge, e, is
    ``atoms.info["charge"]``, 0 if absent.

    Parameters
    ----------
    parameters : of elements; they replace or extend `ELEMENT_PARAMETERS`.
    tolerance : e, bound of the root mean square error of the charges.
    """

    name = "qnep-equilibrated-charges"
    implemented_properties = ["energy", "free_energy", "forces", "stress", "charges"]  # noqa: RUF012 (ASE's own form)

    def __init__(
        self, parameters: Mapping[str, ElementParameters] | None = None, tolerance: float = 1e-8
    ):
        super().__init__()
        self._settings = SolverSettings(None, 0.0, "auto", 1e-5, tolerance, 500, 1)
        self._scheme = EquilibratedScheme(
            self, {**ELEMENT_PARAMETERS, **(parameters or {})}, self._settings
        )

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate the atoms; ASE calls this when a result is missing."""
        super().calculate(atoms, properties, system_changes)
        if self.atoms is None or not self.atoms.pbc.all():
            raise ValueError("charge equilibration needs atoms that are periodic in all directions")
        self._settings.total_charge = float(self.atoms.info.get("charge", 0.0))
        no_weights = np.zeros((0, len(self.atoms)))
        solved = self._scheme.solve(self.atoms, self.atoms.positions, no_weights, [])
        volume = self.atoms.get_volume()
        self.results = mechanical_results(
            solved["energy"], solved["forces"], solved["virial"], volume
        )
        self.results["charges"] = solved["charges"]
