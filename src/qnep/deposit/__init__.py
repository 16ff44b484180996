"""PLUMED on top: sodium deposition, free-energy profiles, and the same PLUMED files in ASE."""

from qnep.deposit.ase_plumed import plumed_calculator
from qnep.deposit.deposition import Deposition
from qnep.deposit.engine import ForceField, LammpsProgram
from qnep.deposit.interval import Protocol
from qnep.deposit.kernel import PlumedError, find_kernel
from qnep.deposit.regions import Regions, choose_regions

__all__ = [
    "Deposition",
    "ForceField",
    "LammpsProgram",
    "PlumedError",
    "Protocol",
    "Regions",
    "choose_regions",
    "find_kernel",
    "plumed_calculator",
]
