"""Strategies on the loop, by the names of the publications they follow."""

from qnep.learn.policies.aofl import OnTheFly
from qnep.learn.policies.haml import Alternating
from qnep.learn.policies.interface_reactor import InterfaceReactor

POLICIES = {policy.name: policy for policy in (OnTheFly, Alternating, InterfaceReactor)}

__all__ = ["POLICIES", "Alternating", "InterfaceReactor", "OnTheFly"]
