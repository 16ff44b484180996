"""The same PLUMED files in ASE: units, time step, restarts of ASE's Plumed calculator in one call."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from ase import Atoms, units
from ase.calculators.plumed import Plumed

from qnep.deposit.kernel import PlumedError, find_kernel
from qnep.deposit.plumed_input import Instruction, read_plumed_input

ELECTRON_VOLT = units.mol / units.kJ
"""1 eV in kJ/mol as ASE's Plumed calculator counts it; PLUMED's own figure for the unit ``eV`` is 2.7e-7 smaller."""


def plumed_calculator(
    atoms: Atoms,
    calculator: Any,
    plumed_file: str | Path,
    timestep_fs: float,
    temperature: float,
    log: str = "",
    restart_step: int | None = None,
    use_charges: bool = False,
) -> Plumed:
    """Return ASE's Plumed calculator around another one, for a file that LAMMPS runs as well.

    Energies in a file with ``UNITS ENERGY=eV`` are exactly those of ASE and of `fix plumed`; a file in kJ/mol differs
    between the two by the 2.7e-7 in which their electron volts differ.

    Parameters
    ----------
    atoms : the atoms that will move; give them the returned calculator.
    calculator : ASE calculator of the unbiased forces, as ``qnep.QNEP(model)``.
    plumed_file : PLUMED input.
    timestep_fs : of the dynamics, fs.
    temperature : K; what PLUMED takes where the file names no TEMP.
    log : file for PLUMED's own log; "" writes it to standard output.
    restart_step : number of steps already done, to continue their HILLS and COLVAR files; None starts anew (PLUMED
        keeps files of before as bck.*).
    use_charges : pass the charges the calculator gives at each step. PLUMED keeps those of the first step.

    Raises
    ------
    PlumedError : no kernel, or an unreadable file. PLUMED's own complaints arrive as its exceptions.
    """
    os.environ.setdefault("PLUMED_KERNEL", str(find_kernel()))
    if importlib.util.find_spec("plumed") is None:
        raise PlumedError(
            "ASE's Plumed calculator needs the Python module plumed: pip install --no-deps hillclimber"
        )
    instructions = [_with_electron_volts_of_ase(one) for one in read_plumed_input(plumed_file)]
    biased = Plumed(
        calc=calculator,
        input=[one.text for one in instructions],
        timestep=timestep_fs * units.fs,
        atoms=atoms,
        kT=temperature * units.kB,
        log=log,
        restart=restart_step is not None,
        use_charge=use_charges,
        update_charge=use_charges,
    )
    biased.istep = restart_step or 0
    return biased


def _with_electron_volts_of_ase(instruction: Instruction) -> Instruction:
    if instruction.action == "UNITS" and instruction.get("ENERGY") == "eV":
        return instruction.with_keywords(ENERGY=repr(ELECTRON_VOLT))
    return instruction
