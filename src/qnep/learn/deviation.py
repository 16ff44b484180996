"""Gate: how much the forces of a committee differ."""

from __future__ import annotations

import numpy as np

from qnep.learn.finding import Finding, Observation, worst_first
from qnep.learn.threshold import AdaptiveThreshold


class ForceDeviation:
    """Largest standard deviation of the force on an atom over the committee, as a vector norm.

    ``sigma_i = sqrt(<|F_i - <F_i>|²>)``, the model deviation of DP-GEN (Comput. Phys. Commun. 253, 107206 (2020),
    doi:10.1016/j.cpc.2020.107206).
    """

    name = "force deviation"

    def __init__(self, threshold: AdaptiveThreshold) -> None:
        self.threshold = threshold

    def judge(self, observation: Observation) -> Finding:
        """Say how far the members disagree.

        Raises
        ------
        ValueError : the calculator is no committee.
        """
        deviations = _deviations(observation)
        limit = self.threshold.value
        value = float(deviations.max())
        return Finding(
            self.name, value, limit, "eV/Å", value > limit, worst_first(deviations, limit)
        )


def _deviations(observation: Observation) -> np.ndarray:  # [n_atoms]
    results = observation.results
    if "deviations" in results:
        return results["deviations"]
    if "forces_std" not in results:
        raise ValueError(
            "the force deviation needs a committee: train at least two members, or use the extrapolation grade"
        )
    return np.linalg.norm(results["forces_std"], axis=1)
