"""One label: energy, forces and stress of one structure, and what is checked before it is accepted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from qnep.dft.kpoints import format_grid, parse_grid
from qnep.dft.reference_calculator import ReferenceCalculator
from qnep.dft.settings import Settings
from qnep.total_charge import total_charge_in


@dataclass(frozen=True)
class Limits:
    """When a label is not accepted.

    Parameters
    ----------
    net_force : eV/Å, sum of the forces over the cell. 0.1-0.3 is usual for 500 eV plane waves and 50 atoms.
    force : eV/Å, largest force on an atom. Larger ones come from atoms inside each other.

    Raises
    ------
    ValueError : a limit that is not positive; infinity is none.
    """

    net_force: float = 1.0
    force: float = 25.0

    def __post_init__(self) -> None:
        for name, limit in (("net_force", self.net_force), ("force", self.force)):
            if not limit > 0:  # written so that NaN fails too
                raise ValueError(
                    f"the limit {name} of a label must be positive (inf for no limit), got {limit:g} eV/Å"
                )


@dataclass
class Label:
    """What a DFT code says about one structure.

    Parameters
    ----------
    energy : eV per cell.
    forces : (n_atoms, 3) array, eV/Å, net force removed by `accept`.
    stress : six numbers, eV/Å³, ASE's order and sign; None where the code gives none.
    level : level of theory with the code and its version.
    kpts : as "2x2x1".
    details : settings, versions, times, log; plain types.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None
    level: str
    kpts: str
    details: dict[str, Any] = field(default_factory=dict)


class RejectedLabel(RuntimeError):
    """The code ended well, but the numbers are not to be trained on.

    Parameters
    ----------
    reason : a sentence.
    is_final : it is the structure's doing, so no other way to converge would give other numbers.
    """

    def __init__(self, reason: str, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


def settings_for(atoms: Atoms, settings: Settings) -> Settings:
    """Return settings with what the structure itself asks for.

    `atoms.info` may hold ``kpts`` ("2x2x1"), ``charge`` or ``total_charge`` (e), and ``n_unpaired``.

    Raises
    ------
    ValueError : a word that cannot be read, or two charges that differ.
    """
    changes: dict[str, Any] = {}
    if "kpts" in atoms.info:
        changes["kpts"] = parse_grid(str(atoms.info["kpts"]))
    total_charge = total_charge_in(atoms.info)
    if total_charge is not None:
        changes["total_charge"] = total_charge
    if "n_unpaired" in atoms.info:
        changes["n_unpaired"] = int(atoms.info["n_unpaired"])
    return settings.replace(**changes)


def compute_label(atoms: Atoms, calculator: ReferenceCalculator) -> Label:
    """Run the calculator; nothing is judged here, and constraints of the structure change nothing."""
    start, cpu_start = time.perf_counter(), _cpu_seconds()
    structure = atoms.copy()
    structure.set_constraint()  # ASE would return zero forces on fixed atoms
    structure.calc = calculator
    energy = float(structure.get_potential_energy())
    label = Label(
        energy=energy,
        forces=np.array(structure.get_forces()),
        stress=calculator.results.get("stress"),
        level=calculator.settings.level,
        kpts=format_grid(calculator.grid(structure)),
    )
    label.details = {
        "wall_s": time.perf_counter() - start,
        "cpu_s": _cpu_seconds() - cpu_start,
        "free_energy": float(calculator.results["free_energy"]),
    }
    return label


def accept(label: Label, n_atoms: int, limits: Limits) -> Label:
    """Return the label, of a structure with so many atoms, with its net force removed.

    Raises
    ------
    RejectedLabel : of another shape, not finite, or forces over the limits; final for the largest force.
    """
    _check_numbers(label, n_atoms)
    net_force = label.forces.sum(axis=0)
    if np.linalg.norm(net_force) > limits.net_force:
        raise RejectedLabel(
            f"net force {np.linalg.norm(net_force):.2f} eV/Å, limit {limits.net_force:g}"
        )
    largest = np.linalg.norm(label.forces, axis=1).max()
    if largest > limits.force:
        raise RejectedLabel(
            f"largest force {largest:.1f} eV/Å, limit {limits.force:g}", is_final=True
        )
    label.details["net_force_removed"] = net_force.tolist()
    label.forces = label.forces - net_force / len(label.forces)
    return label


def _check_numbers(label: Label, n_atoms: int) -> None:
    if label.forces.shape != (n_atoms, 3):
        raise RejectedLabel(f"forces must have shape ({n_atoms}, 3), got {label.forces.shape}")
    if not (np.isfinite(label.energy) and np.isfinite(label.forces).all()):
        raise RejectedLabel("energy or forces are not finite")
    if label.stress is None:
        return
    if np.shape(label.stress) != (6,):
        raise RejectedLabel(f"stress must have shape (6,), got {np.shape(label.stress)}")
    if not np.isfinite(label.stress).all():  # one such label would spoil every training
        raise RejectedLabel(f"stress must be finite or absent, got {label.stress} eV/Å³")


def charge_info(details: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, float]:
    """Return ``{"charge": e}`` as trainers and GPUMD read it, empty for a neutral cell.

    Parameters
    ----------
    details : of a label; the settings that made it decide.
    info : of the structure, for labels that were taken from a file.
    """
    charge = details.get("settings", {}).get("total_charge", total_charge_in(info))
    return {"charge": float(charge)} if charge else {}


def labelled_atoms(atoms: Atoms, label: Label) -> Atoms:
    """Return a structure that carries the label in a calculator, with nothing but positions, cell and elements."""
    result = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    result.calc = SinglePointCalculator(
        result,
        energy=label.energy,
        free_energy=label.details.get("free_energy", label.energy),
        forces=label.forces,
        stress=label.stress,
    )
    return result


def _cpu_seconds() -> float:
    """CPU time of this process and of the programs it started."""
    import resource

    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(entry.ru_utime + entry.ru_stime for entry in usage)
