"""Langevin dynamics in which two calculators take turns, and from whose snapshots it goes on to the same numbers."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator, Calculator, all_changes
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

ML = "ml"
REFERENCE = "reference"


@dataclass(frozen=True)
class Snapshot:
    """Everything that decides how a run goes on.

    Parameters
    ----------
    step : steps done.
    positions : (n_atoms, 3) array, Å.
    momenta : (n_atoms, 3) array, ASE's units.
    random_state : of NumPy's bit generator.
    driver : whose forces the next step begins with.
    """

    step: int
    positions: np.ndarray
    momenta: np.ndarray
    random_state: dict[str, Any]
    driver: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain types that JSON keeps every digit of; arrays as text, which is faster than numbers."""
        return {
            **vars(self),
            "positions": _as_text(self.positions),
            "momenta": _as_text(self.momenta),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Snapshot:
        """Return the snapshot that `as_dict` described."""
        arrays = {name: _as_array(values[name]) for name in ("positions", "momenta")}
        return cls(**{**values, **arrays})


class TurnTaker(Calculator):
    """ASE calculator that passes on what the driver of the moment says.

    Parameters
    ----------
    reference : ASE calculator of the reference.
    ml : the machine-learned one; may be exchanged at any time, None until there is one.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE's own form)

    def __init__(self, reference: BaseCalculator, ml: Calculator | None = None) -> None:
        super().__init__()
        self._calculators: dict[str, BaseCalculator | None] = {ML: ml, REFERENCE: reference}
        self._driver = ML if ml is not None else REFERENCE

    @property
    def driver(self) -> str:
        """``"ml"`` or ``"reference"``."""
        return self._driver

    @driver.setter
    def driver(self, name: str) -> None:
        if self._calculators[name] is None:
            raise ValueError("there is no machine-learned calculator yet")
        if name != self._driver:
            self.reset()
        self._driver = name

    def exchange_ml(self, calculator: Calculator) -> None:
        """Use another machine-learned calculator from now on."""
        self._calculators[ML] = calculator
        if self._driver == ML:
            self.reset()

    def results_of_ml(self, atoms: Atoms) -> dict[str, Any]:
        """Return what the machine-learned calculator says about atoms, whoever drives."""
        return self._results_of(ML, atoms)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Fill `results`; called by ASE."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None  # ASE hands it over
        results = self._results_of(self._driver, self.atoms)
        self.results = {name: results[name] for name in self.implemented_properties}

    def _results_of(self, name: str, atoms: Atoms) -> dict[str, Any]:
        calculator = self._calculators[name]
        if calculator is None:
            raise ValueError("there is no machine-learned calculator yet")
        calculator.get_property("forces", atoms)
        return dict(calculator.results)


class Dynamics:
    """Langevin dynamics at constant volume.

    Parameters
    ----------
    atoms : copied; constraints are kept. Where all velocities are zero they are drawn at the temperature.
    calculator : of the forces.
    temperature : K.
    timestep_fs : fs.
    friction : 1/fs.
    seed : of velocities and noise.

    Raises
    ------
    ValueError : numbers that are not positive.
    """

    def __init__(
        self,
        atoms: Atoms,
        calculator: TurnTaker,
        temperature: float,
        timestep_fs: float,
        friction: float,
        seed: int | list[int],
    ) -> None:
        for name, value in (
            ("temperature", temperature),
            ("timestep_fs", timestep_fs),
            ("friction", friction),
        ):
            if not (value > 0 and np.isfinite(value)):
                raise ValueError(f"{name} of the dynamics must be positive, got {value:g}")
        self.temperature = temperature
        self.calculator = calculator
        self.step = 0
        self._random = np.random.default_rng(seed)
        self.atoms = atoms.copy()
        self.atoms.calc = calculator
        if not self.atoms.get_momenta().any():
            self.draw_velocities()
        self._langevin = Langevin(
            self.atoms,
            timestep_fs * units.fs,
            temperature_K=temperature,
            friction=friction / units.fs,
            fixcm=False,  # ASE's form of it does not sample the canonical distribution
            rng=self._random,
        )

    def draw_velocities(self) -> None:
        """Draw all velocities at the temperature."""
        thermalize_momenta(self.atoms, temperature_K=self.temperature, rng=self._random)

    def draw_seed(self, most: int) -> int:
        """Return a number from 1 to `most`, of the generator whose state the snapshots hold."""
        return int(self._random.integers(1, most, endpoint=True))

    def place(self, step: int, positions: np.ndarray, momenta: np.ndarray) -> None:
        """Take over what another program has driven with the models: Å, ASE's units."""
        self.step = step
        self.atoms.positions = positions
        self.atoms.set_momenta(momenta, apply_constraint=False)
        self.calculator.driver = ML

    def advance(self, driver: str) -> None:
        """Do one step; its second half is driven by `driver`, its first by whoever drove before."""
        forces = self.atoms.get_forces(md=True)
        self.calculator.driver = driver
        self._langevin.step(forces)
        self.step += 1

    def snapshot(self) -> Snapshot:
        """Return the state of the moment."""
        return Snapshot(
            self.step,
            self.atoms.get_positions(),
            self.atoms.get_momenta(),
            _plain(self._random.bit_generator.state),
            self.calculator.driver,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot, up to the rounding of calculators that keep neighbour lists."""
        self.step = snapshot.step
        self.atoms.positions = snapshot.positions
        self.atoms.set_momenta(snapshot.momenta, apply_constraint=False)
        self._random.bit_generator.state = snapshot.random_state
        self.calculator.driver = snapshot.driver

    def go_back(self, snapshot: Snapshot) -> None:
        """Return to positions and momenta of a snapshot; the noise that follows is new."""
        noise = self._random.bit_generator.state
        self.restore(snapshot)
        self._random.bit_generator.state = noise


def _as_text(vectors: np.ndarray) -> str:
    """Return (n, 3) numbers as base64 of little-endian doubles."""
    return base64.b64encode(np.ascontiguousarray(vectors, "<f8").tobytes()).decode("ascii")


def _as_array(text: str | list[list[float]]) -> np.ndarray:  # [n, 3]
    """Return what `_as_text` wrote; states of before hold lists."""
    if isinstance(text, list):
        return np.array(text, float).reshape(-1, 3)
    return np.frombuffer(base64.b64decode(text), "<f8").astype(float).reshape(-1, 3)


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a bit generator as plain types."""
    return {
        key: _plain(value) if isinstance(value, Mapping) else value for key, value in state.items()
    }
