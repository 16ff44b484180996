"""Active learning: gates, a loop that machine-learned and reference dynamics share, policies on top."""

from qnep.learn.alarms import BondJump, ClosestPair, EnergyJump, ForceCeiling, Temperature
from qnep.learn.deviation import ForceDeviation
from qnep.learn.extrapolation import ActiveSet, ActiveSetError, ExtrapolationGrade
from qnep.learn.features import Features
from qnep.learn.finding import Finding, Observation
from qnep.learn.learner import Learner, LearningFailed, Parts, Start
from qnep.learn.policies import POLICIES, Alternating, InterfaceReactor, OnTheFly
from qnep.learn.reference import Reference, ReferenceFailed
from qnep.learn.settings import ConfigurationError, make_learner, read_configuration
from qnep.learn.similarity import SimilarityScreen
from qnep.learn.state import State, StateError
from qnep.learn.threshold import AdaptiveThreshold
from qnep.learn.trainer import FineTuner

__all__ = [
    "POLICIES",
    "ActiveSet",
    "ActiveSetError",
    "AdaptiveThreshold",
    "Alternating",
    "BondJump",
    "ClosestPair",
    "ConfigurationError",
    "EnergyJump",
    "ExtrapolationGrade",
    "Features",
    "Finding",
    "FineTuner",
    "ForceCeiling",
    "ForceDeviation",
    "InterfaceReactor",
    "Learner",
    "LearningFailed",
    "Observation",
    "OnTheFly",
    "Parts",
    "Reference",
    "ReferenceFailed",
    "SimilarityScreen",
    "Start",
    "State",
    "StateError",
    "Temperature",
    "make_learner",
    "read_configuration",
]
