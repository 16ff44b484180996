"""From a trajectory to answers: species, reactions, solvation, layers, crystals, deposition.

Nothing here knows the potential: whatever writes extended XYZ, LAMMPS dumps, DCD or XTC can be analysed.
"""

from qnep.analysis.bond_cutoffs import BondCutoffs
from qnep.analysis.errors import TrajectoryError
from qnep.analysis.frame import Frame
from qnep.analysis.species import SpeciesAnalysis, SpeciesResult, find_species
from qnep.analysis.trajectory import Trajectory, open_trajectory

__all__ = [
    "BondCutoffs",
    "Frame",
    "SpeciesAnalysis",
    "SpeciesResult",
    "Trajectory",
    "TrajectoryError",
    "find_species",
    "open_trajectory",
]
