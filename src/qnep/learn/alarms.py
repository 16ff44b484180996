"""Gates: what no sound trajectory does. They need no statistics and do not adapt."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from qnep.analysis.bond_cutoffs import METALS
from qnep.learn.finding import LARGEST_RATIO, Finding, Observation, worst_first


def _check_positive(name: str, value: float) -> None:
    if not (value > 0 and np.isfinite(value)):
        raise ValueError(f"{name} must be positive, got {value:g}")


class ClosestPair:
    """Fires for two atoms nearer than `ratio` times the sum of their covalent radii (Cordero's, as ASE has them)."""

    name = "closest pair"

    def __init__(self, ratio: float = 0.6) -> None:
        _check_positive("closest_pair", ratio)
        if ratio >= LARGEST_RATIO:
            raise ValueError(f"closest_pair must be below {LARGEST_RATIO:g}, got {ratio:g}")
        self.ratio = ratio

    def judge(self, observation: Observation) -> Finding:
        first, second, ratios = observation.close_pairs
        if not len(ratios):
            return Finding(
                self.name, LARGEST_RATIO, self.ratio, "r/(R+R)", False, (), "no pair in reach"
            )
        k = int(ratios.argmin())
        fires = bool(ratios[k] < self.ratio)
        atoms = (int(first[k]), int(second[k])) if fires else ()
        return Finding(self.name, float(ratios[k]), self.ratio, "r/(R+R)", fires, atoms)


class Temperature:
    """Fires when the kinetic temperature leaves what a thermostat allows.

    The limit is ``temperature (1 + max(excess, 6 sqrt(2 / n)))`` with n degrees of freedom, 3 for each atom that is not
    fixed: six standard deviations of the canonical fluctuation where few atoms move.
    """

    name = "temperature"

    def __init__(self, temperature: float, excess: float = 0.5) -> None:
        _check_positive("temperature", temperature)
        _check_positive("temperature_excess", excess)
        self.temperature = temperature
        self.excess = excess

    def judge(self, observation: Observation) -> Finding:
        n_free = max(1, observation.atoms.get_number_of_degrees_of_freedom())
        fluctuation = 6 * np.sqrt(2 / n_free)
        limit = self.temperature * (1 + max(self.excess, fluctuation))
        value = float(observation.atoms.get_temperature())
        return Finding(self.name, value, limit, "K", not value <= limit)


class ForceCeiling:
    """Fires for a force on an atom above `ceiling`, eV/Å."""

    name = "force ceiling"

    def __init__(self, ceiling: float = 25.0) -> None:
        _check_positive("force_ceiling", ceiling)
        self.ceiling = ceiling

    def judge(self, observation: Observation) -> Finding:
        forces = np.linalg.norm(observation.results["forces"], axis=1)
        value = float(forces.max())
        atoms = worst_first(forces, self.ceiling)
        return Finding(self.name, value, self.ceiling, "eV/Å", not value <= self.ceiling, atoms)


class _Jump(ABC):
    """A quantity held against its value at the look before; `previous` is part of the state of a run."""

    name = ""
    unit = ""

    def __init__(self, limit: float) -> None:
        _check_positive(self.name.replace(" ", "_"), limit)
        self.limit = limit
        self.previous: float | None = None

    @abstractmethod
    def measure(self, observation: Observation) -> float:
        """Return the quantity now."""

    def judge(self, observation: Observation) -> Finding:
        now = self.measure(observation)
        change = 0.0 if self.previous is None else abs(now - self.previous)
        note = "first look" if self.previous is None else f"{self.previous:.6g} to {now:.6g}"
        self.previous = now
        return Finding(self.name, change, self.limit, self.unit, not change <= self.limit, (), note)


class EnergyJump(_Jump):
    """Fires when the potential energy per atom changes by more than `limit` eV between two looks."""

    name = "energy jump"
    unit = "eV/atom"

    def measure(self, observation: Observation) -> float:
        return float(observation.results["energy"]) / len(observation.atoms)


class BondJump(_Jump):
    """Fires when more than `limit` covalent bonds are made or broken, net, between two looks.

    A bond is a pair of non-metals nearer than 1.3 sums of their covalent radii.
    """

    name = "bond jump"
    unit = "bonds"

    def measure(self, observation: Observation) -> float:
        symbols = np.array(observation.atoms.get_chemical_symbols())
        is_metal = np.isin(symbols, sorted(METALS))
        first, second, _ = observation.close_pairs
        return float(np.count_nonzero(~is_metal[first] & ~is_metal[second]))
