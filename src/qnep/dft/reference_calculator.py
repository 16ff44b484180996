"""The calculator that labels: a DFT code plus the terms it lacks, with k-points from a spacing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    BaseCalculator,
    Calculator,
    PropertyNotImplementedError,
    SCFError,
    all_changes,
)
from ase.geometry import find_mic
from ase.stress import full_3x3_to_voigt_6_stress

from qnep.dft.corrections import PulayStress, dispersion_calculator
from qnep.dft.kpoints import kpoint_grid
from qnep.dft.settings import Settings

LARGEST_STEP = 0.5
"""Å; orbitals of a structure in which an atom is further away are a worse start than none."""


class NotConverged(RuntimeError):
    """A DFT code stopped without a converged density."""


def is_scf_error(failure: Exception, directory: Path) -> bool:
    """Whether an error is ASE's word for a density that did not converge, or ours."""
    return isinstance(failure, (SCFError, NotConverged))


def chosen_grid(atoms: Atoms, settings: Settings) -> tuple[int, int, int]:
    """Return the k-points that settings mean for a structure."""
    if settings.kpts is not None:
        return settings.kpts
    if np.isinf(settings.kpoint_spacing) or atoms.cell.rank < 3:
        return (1, 1, 1)
    return kpoint_grid(atoms.cell.array, settings.kpoint_spacing, atoms.pbc)


class ReferenceCalculator(Calculator):
    """ASE calculator: energy, forces and stress of a code, with dispersion and basis-set correction added.

    `energy` is what the setting `energy` asks for; `free_energy` is always the one whose gradient the forces are.
    The calculator of the code, and with it its orbitals, is kept from one step of molecular dynamics to the next.

    Parameters
    ----------
    make_calculator : of (atoms, grid, settings, directory) -> calculator of the code alone.
    settings : level of theory.
    adds_dispersion : the code adds the dispersion itself.
    check_structure : called with every structure, may warn or raise; None for no check.
    directory : for the files of the code.
    is_not_converged : of (error of the code, directory) -> whether it says that the density did not converge.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 (declared by ASE)

    def __init__(
        self,
        make_calculator: Callable[..., BaseCalculator],
        settings: Settings,
        adds_dispersion: bool = False,
        check_structure: Callable[[Atoms], None] | None = None,
        directory: Path = Path(),
        is_not_converged: Callable[[Exception, Path], bool] = is_scf_error,
    ) -> None:
        super().__init__(directory=directory)
        self.settings = settings
        self._make_calculator = make_calculator
        self._check_structure = check_structure
        self._is_not_converged = is_not_converged
        self._why_no_stress = settings.why_no_stress
        self._corrections = _correction_calculators(settings, adds_dispersion)
        self._code: BaseCalculator | None = None
        self._code_is_for: Atoms | None = None

    def grid(self, atoms: Atoms) -> tuple[int, int, int]:
        """Return the k-points for a structure."""
        return chosen_grid(atoms, self.settings)

    def continues(self, atoms: Atoms) -> bool:
        """Return whether the next calculation would begin with the orbitals of the last one."""
        last = self._code_is_for
        return (
            last is not None
            and np.array_equal(last.numbers, atoms.numbers)
            and np.array_equal(last.cell.array, atoms.cell.array)
            and np.array_equal(last.pbc, atoms.pbc)
            and self.grid(last) == self.grid(atoms)
            and find_mic(atoms.positions - last.positions, atoms.cell, atoms.pbc)[1].max()
            < LARGEST_STEP
        )

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        """Fill `results`; called by ASE.

        Raises
        ------
        NotConverged : the code says that it did not converge. All other errors of the code come as they are.
        PropertyNotImplementedError : the stress is wanted, and could not be corrected with these settings.
        """
        if self._why_no_stress and properties and "stress" in properties:
            raise PropertyNotImplementedError(self._why_no_stress)
        super().calculate(atoms, properties, system_changes)
        assert atoms is not None  # ASE hands it over
        if self._check_structure is not None:
            self._check_structure(atoms)
        code = self._calculator_of_code(atoms)
        structure = atoms.copy()
        structure.set_constraint()  # these act once, on the atoms that carry this calculator
        structure.calc = code
        try:
            results = _evaluate(structure, self.settings.energy, not self._why_no_stress)
        except Exception as failure:  # the codes raise anything
            if self._is_not_converged(failure, Path(self.directory)) or _says_no(code):
                words = f"{type(code).__name__} did not converge ({_describe(failure)})"
                raise NotConverged(words) from failure
            raise
        if _says_no(code):
            raise NotConverged(f"{type(code).__name__} did not converge")
        for correction in self._corrections:
            _add(results, correction, atoms)
        self.results = results  # only now: ASE would return what is there without asking again

    def _calculator_of_code(self, atoms: Atoms) -> BaseCalculator:
        if self._code is None or not self.continues(atoms):
            directory = Path(self.directory)
            self._code = self._make_calculator(atoms, self.grid(atoms), self.settings, directory)
        self._code_is_for = atoms.copy()
        return self._code


def _correction_calculators(settings: Settings, adds_dispersion: bool) -> list[Calculator]:
    corrections: list[Calculator] = []
    if settings.dispersion != "none" and not adds_dispersion:
        corrections.append(dispersion_calculator(settings.dispersion, settings.xc))
    if settings.pulay and not settings.why_no_stress:
        if settings.cutoff_eV is None:
            raise ValueError("the setting pulay needs cutoff_eV")
        corrections.append(PulayStress(settings.cutoff_eV, settings.pulay_slopes))
    return corrections


def _says_no(code: BaseCalculator) -> bool:
    return getattr(code, "converged", True) is False


def _describe(failure: Exception) -> str:
    text = str(failure).strip()
    return f"{type(failure).__name__}: {text}" if text else type(failure).__name__


def _add(results: dict[str, Any], correction: Calculator, atoms: Atoms) -> None:
    energy = correction.get_potential_energy(atoms)
    results["energy"] += energy
    results["free_energy"] += energy
    results["forces"] = results["forces"] + correction.get_forces(atoms)
    if "stress" in results:
        results["stress"] = results["stress"] + correction.get_stress(atoms)


def _evaluate(structure: Atoms, energy: str, with_stress: bool) -> dict[str, Any]:
    """Return what the code gives; stress, if wanted, only where the cell has a volume and the code can."""
    free_energy = structure.get_potential_energy(force_consistent=_has_free_energy(structure.calc))
    results = {
        "free_energy": free_energy,
        "energy": free_energy if energy == "free" else structure.get_potential_energy(),
        "forces": structure.get_forces(),
    }
    if with_stress and structure.cell.rank == 3:
        try:
            stress = structure.get_stress(voigt=False)
        except PropertyNotImplementedError:
            return results
        results["stress"] = full_3x3_to_voigt_6_stress(stress)
    return results


def _has_free_energy(calculator: BaseCalculator) -> bool:
    return "free_energy" in calculator.implemented_properties
