"""Electrodes at constant potential or constant charge on top of a learned potential.

The theory, with its limits, is in the documentation's page on electrodes.
"""

from qnep.electrode.baseline import EquilibratedCharges
from qnep.electrode.constant_potential import ConstantPotential
from qnep.electrode.membership import CoordinationMembership, FixedMembership
from qnep.electrode.parameters import ELEMENT_PARAMETERS, Electrode, ElementParameters

__all__ = [
    "ELEMENT_PARAMETERS",
    "ConstantPotential",
    "CoordinationMembership",
    "Electrode",
    "ElementParameters",
    "EquilibratedCharges",
    "FixedMembership",
]
