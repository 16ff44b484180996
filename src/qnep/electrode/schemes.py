"""The two ways to join charge equilibration with a learned potential.

`EquilibratedScheme`: all atoms carry equilibrated charges, the potential was trained on what they leave of the energy.
`InducedScheme`: a potential with charges of its own, to which the atoms of electrodes add what their potential induces.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from qnep._core import ChargeEquilibration, ReciprocalSum
from qnep.calculator import QNEP
from qnep.electrode.membership import Weights
from qnep.electrode.parameters import Electrode, ElementParameters, per_atom
from qnep.electrode.slab import Fields, slab_correction
from qnep.neighbors import VerletList

logger = logging.getLogger(__name__)

LARGEST_SENSIBLE_CHARGE = 1.0  # e on one electrode atom; more is no linear response of a metal
LARGEST_EWALD = 250  # atoms, as in the core's own choice at usual densities


@dataclass
class SolverSettings:
    """How charges are found; see `ConstantPotential`."""

    slab_axis: int | None
    total_charge: float
    kspace: str
    accuracy: float
    tolerance: float
    max_iterations: int
    n_threads: int

    def method(self, n_atoms: int) -> str:
        """The reciprocal sum for this number of atoms: one for all sums of a step, so that they fit together."""
        if self.kspace != "auto":
            return self.kspace
        return "ewald" if n_atoms <= LARGEST_EWALD else "pppm"

    def solver(self, alpha: float, cutoff: float, n_atoms: int) -> ChargeEquilibration:
        return ChargeEquilibration(
            alpha,
            cutoff=cutoff,
            kspace=self.method(n_atoms),
            accuracy=self.accuracy,
            n_threads=self.n_threads,
            slab_axis=-1 if self.slab_axis is None else self.slab_axis,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )


@dataclass
class Outcome:
    """What a scheme returns: energies in eV, lengths in Å, charges in e, potentials in V."""

    energy: float
    forces: np.ndarray
    virial: np.ndarray | None
    charges: np.ndarray
    electrode_charges: np.ndarray
    electrode_potentials: np.ndarray
    n_iterations: int


def electrode_potentials(
    electrodes: Sequence[Electrode], multipliers: Sequence[float]
) -> np.ndarray:
    """Given potentials, and for electrodes of given charge the multipliers that hold it, in order."""
    held = iter(multipliers)
    return np.array([next(held) if e.potential_V is None else e.potential_V for e in electrodes])


def warn_of_large_charges(charges: np.ndarray) -> None:
    """Log where the potential drives charges beyond what a linear response means."""
    worst = int(np.argmax(np.abs(charges)))
    if abs(charges[worst]) > LARGEST_SENSIBLE_CHARGE:
        logger.warning(
            "electrode atom %d carries %.2f e, more than %.1f e: the potentials drive the model beyond its sense",
            worst,
            charges[worst],
            LARGEST_SENSIBLE_CHARGE,
        )


class EquilibratedScheme:
    """Omega = E_base + E_QEq, with minus the electrode's potential added to the electronegativity of its atoms."""

    def __init__(
        self,
        calculator: Calculator,
        parameters: Mapping[str, ElementParameters],
        settings: SolverSettings,
    ):
        self.calculator = calculator
        self._parameters = parameters
        self._settings = settings
        self._symbols: list[str] = []

    def _set_up(self, symbols: list[str]) -> None:
        if symbols == self._symbols:
            return
        self._electronegativities, self._hardnesses, self._widths = per_atom(
            symbols, self._parameters
        )
        # Both erfc(alpha d) and erfc(d/2 sigma) have fallen to erfc(pi) = 9e-6 at the cutoff.
        cutoff = max(8.0, 2 * np.pi * self._widths.max())
        self._neighbors = VerletList(cutoff, 0.6, self._settings.n_threads)
        self._solver = self._settings.solver(np.pi / cutoff, cutoff, len(symbols))
        self._symbols = symbols

    def evaluate(
        self,
        atoms: Atoms,
        positions: np.ndarray,
        weights: Weights,
        electrodes: Sequence[Electrode],
    ) -> Outcome:
        solved = self.solve(atoms, positions, weights.values, electrodes)
        charges = solved["charges"]
        potentials = electrode_potentials(electrodes, solved["multipliers"][1:])
        moved, virial = weights.pull_back(-potentials[:, None] * charges)
        warn_of_large_charges(weights.values.sum(axis=0) * charges)
        base = atoms.copy()
        base.set_constraint()  # the atoms have them: they would act twice
        base.calc = self.calculator
        total_virial = None
        if "stress" in self.calculator.implemented_properties:
            stress = base.get_stress(voigt=False)
            total_virial = -stress * atoms.get_volume() + solved["virial"] + virial
        return Outcome(
            base.get_potential_energy() + solved["energy"],
            base.get_forces() + solved["forces"] + moved,
            total_virial,
            charges,
            weights.values @ charges,
            potentials,
            solved["n_iterations"],
        )

    def solve(
        self,
        atoms: Atoms,
        positions: np.ndarray,
        weights: np.ndarray,
        electrodes: Sequence[Electrode],
    ) -> dict[str, Any]:
        """Charges, energy, forces and virial of the equilibrated charges alone; weights: [n_electrodes, n_atoms]."""
        self._set_up(atoms.get_chemical_symbols())
        given = np.array([e.potential_V or 0.0 for e in electrodes])
        held = [k for k, e in enumerate(electrodes) if e.potential_V is None]
        totals = [self._settings.total_charge, *(electrodes[k].charge for k in held)]
        if self._neighbors.update(positions, atoms.cell.array, np.ones(3, bool)):
            self._solver.set_pairs(
                self._neighbors.first, self._neighbors.second, self._neighbors.shifts
            )
        return self._solver.solve(
            positions,
            atoms.cell.array,
            self._electronegativities - given @ weights,
            self._hardnesses,
            self._widths,
            np.vstack([np.ones(len(atoms)), weights[held]]),
            np.array(totals, dtype=float),
        )


class InducedScheme:
    """Omega = E_qNEP + W(potentials) - W(equal potentials).

    W is the minimum, over charges added to electrode atoms, of their hardness energy, their interaction with the
    model's charges and with each other in the model's own reciprocal sum, and their work against the potentials.
    """

    def __init__(
        self,
        calculator: QNEP,
        parameters: Mapping[str, ElementParameters],
        settings: SolverSettings,
    ):
        if not isinstance(calculator, QNEP) or calculator.model.charge_mode == 0:
            raise ValueError(
                "induced charges need a QNEP calculator whose model has charges; for any other potential use "
                'scheme="equilibrated"'
            )
        if calculator.parameters["total_charge"] != settings.total_charge:
            raise ValueError(
                f"total_charge must be that of the calculator, {calculator.parameters['total_charge']}, got "
                f"{settings.total_charge}"
            )
        self.calculator = calculator
        self._parameters = parameters
        self._settings = settings
        self._alpha = calculator.model.ewald_alpha
        self._n_atoms = -1

    def _set_up(self, n_atoms: int) -> None:
        if n_atoms == self._n_atoms:
            return
        settings = self._settings
        self._sum = ReciprocalSum(
            settings.method(n_atoms), self._alpha, settings.accuracy, settings.n_threads
        )
        self._biased = settings.solver(self._alpha, 0.0, n_atoms)
        self._shorted = settings.solver(self._alpha, 0.0, n_atoms)
        self._n_atoms = n_atoms

    def evaluate(
        self,
        atoms: Atoms,
        positions: np.ndarray,
        weights: Weights,
        electrodes: Sequence[Electrode],
    ) -> Outcome:
        self._set_up(len(atoms))
        step = _InducedStep(self, atoms, positions, weights, electrodes)
        output = self.calculator.evaluate(atoms, response=step.respond)
        moved, virial = weights.pull_back(step.weight_derivatives)
        return Outcome(
            output["energy"] + step.energy,
            output["forces"] + step.difference.forces + moved,
            output["virial"] + step.difference.virial + virial,
            output["charges"] + step.induced,
            step.sides @ step.induced,
            step.potentials,
            step.n_iterations,
        )

    def fields(self, atoms: Atoms, positions: np.ndarray, charges: np.ndarray) -> Fields:
        """Potentials, forces and virial of charges in the model's reciprocal sum, with the slab term."""
        output = self._sum.compute(positions, atoms.cell.array, charges)
        fields = Fields(*(output[key] for key in ("energy", "potentials", "forces", "virial")))
        axis = self._settings.slab_axis
        return (
            fields
            if axis is None
            else fields + slab_correction(positions, atoms.cell.array, charges, axis)
        )


class _InducedStep:
    """One configuration: from the model's charges to the induced ones and what they change."""

    def __init__(
        self,
        scheme: InducedScheme,
        atoms: Atoms,
        positions: np.ndarray,
        weights: Weights,
        electrodes: Sequence[Electrode],
    ):
        self._scheme = scheme
        self._atoms = atoms
        self._positions = positions
        self._electrodes = electrodes
        metal = weights.values.sum(axis=0)
        self._active = np.flatnonzero(metal > 1e-8)  # below, an induced charge is of this order
        self._metal = metal[self._active]
        self.sides = np.zeros_like(
            weights.values
        )  # share of each electrode in an atom's induced charge
        self.sides[:, self._active] = weights.values[:, self._active] / self._metal
        symbols = np.array(atoms.get_chemical_symbols())[self._active].tolist()
        self._hardnesses = per_atom(symbols, scheme._parameters)[1]
        self.weight_derivatives = np.zeros_like(weights.values)
        self.induced = np.zeros(len(atoms))
        self.energy = 0.0
        self.n_iterations = 0

    def respond(self, charges: np.ndarray) -> np.ndarray:
        """Return the change of all atoms' potentials, (n_atoms,), that the bias makes."""
        acting = self._scheme.fields(self._atoms, self._positions, charges)
        shorted = self._solve(self._scheme._shorted, acting.potentials, None)
        biased = self._solve(self._scheme._biased, acting.potentials, self._electrodes)
        warn_of_large_charges(self.induced)
        self.energy = biased["energy"] - shorted["energy"]
        reference = np.zeros(len(self._atoms))
        reference[self._active] = shorted["charges"]
        self.difference = self._scheme.fields(
            self._atoms, self._positions, charges + self.induced
        ) - self._scheme.fields(self._atoms, self._positions, charges + reference)
        return self.difference.potentials

    def _solve(
        self,
        solver: ChargeEquilibration,
        acting: np.ndarray,
        electrodes: Sequence[Electrode] | None,
    ) -> dict[str, Any]:
        """Solve with the given electrodes, or with all of them connected; add what the weights feel."""
        active, sides = self._active, self.sides[:, self._active]
        rows, totals, given = [np.ones(len(active))], [0.0], np.zeros(len(sides))
        if electrodes is not None:
            given = np.array([e.potential_V or 0.0 for e in electrodes])
            held = [k for k, e in enumerate(electrodes) if e.potential_V is None]
            if len(held) == len(electrodes):  # the shares add up to one: the total follows
                rows, totals = [], []
            rows += [sides[k] for k in held]
            totals += [float(electrodes[k].charge) for k in held]  # type: ignore[arg-type]
        solved = solver.solve(
            self._positions[active],
            self._atoms.cell.array,
            acting[active] - given @ sides,
            self._hardnesses / self._metal,
            None,
            np.array(rows),
            np.array(totals),
            forces=False,
        )
        charges = solved["charges"]
        softness = -0.5 * self._hardnesses * (charges / self._metal) ** 2
        sign = -1.0
        potentials = given
        if electrodes is not None:
            sign = 1.0
            n_held = sum(e.potential_V is None for e in electrodes)
            multipliers = solved["multipliers"]
            potentials = electrode_potentials(electrodes, multipliers[len(multipliers) - n_held :])
            self.potentials = potentials
            self.induced[active] = charges
        work = -charges * (potentials[:, None] - potentials @ sides) / self._metal
        self.weight_derivatives[:, active] += sign * (softness + work)
        self.n_iterations += solved["n_iterations"]
        return solved
