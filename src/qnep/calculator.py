"""ASE calculators: one model (`QNEP`) or several of them (`Committee`)."""

from __future__ import annotations

import copy
import math
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import atomic_numbers, chemical_symbols

from qnep._core import Evaluator, available_simd
from qnep.conventions import to_voigt
from qnep.model import Model
from qnep.neighbors import VerletList, are_equal, are_identical, cell_volume

EVALUATION_SETTINGS = {"total_charge", "kspace", "accuracy", "mean_correction"}
"""Settings that are given with every evaluation; the others are built into the evaluator."""

MOST_THREADS = 1024  # OpenMP ends the process where it cannot start them

ModelSource = Model | str | PathLike[str]

_Check = tuple[Callable[[Any], bool], str]
"""Whether a value can be used, and in words what is wanted."""


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return bool(-math.inf < value < math.inf)  # written so that NaN fails too


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and bool(1 <= value <= MOST_THREADS)


def _one_of(*names: str) -> _Check:
    wanted = f"{', '.join(names[:-1])} or {names[-1]}"
    return lambda value: isinstance(value, str) and value in names, wanted


_CHECKS: dict[str, _Check] = {
    "total_charge": (_is_number, "a finite number, e"),
    "kspace": _one_of("auto", "ewald", "pppm"),
    "accuracy": (lambda value: _is_number(value) and value > 0, "a positive number, eV/Å"),
    "mean_correction": (lambda value: isinstance(value, bool), "True or False"),
    "precision": _one_of("double", "single"),
    "simd": _one_of("auto", *available_simd()),
    "n_threads": (_is_count, f"a whole number from 1 to {MOST_THREADS}"),
    "temperature": (
        lambda value: value is None or (_is_number(value) and value >= 0),
        "None or a finite number that is not negative, K",
    ),
    "skin": (
        lambda value: _is_number(value) and value >= 0,
        "a finite number that is not negative, Å",
    ),
}
"""The settings of the calculators."""


def _check_settings(settings: dict[str, Any], owner: str) -> None:
    """Raise TypeError for a name that is no setting, ValueError for a value that cannot be used."""
    unknown = sorted(set(settings) - set(_CHECKS))
    if unknown:
        raise TypeError(
            f"{owner} has no setting {', '.join(unknown)}; it knows {', '.join(_CHECKS)}"
        )
    for name, value in settings.items():
        is_usable, wanted = _CHECKS[name]
        if not is_usable(value):
            raise ValueError(f"{name} must be {wanted}, got {value!r}")


class _Member:
    """One model at work: the evaluator, its neighbour list and the type of every element."""

    def __init__(self, model: Model, path: str | None, settings: dict[str, Any]):
        self.model = model
        self.path = path
        self._evaluator = Evaluator(
            self.model,
            precision=settings["precision"],
            simd=settings["simd"],
            n_threads=settings["n_threads"],
            temperature=settings["temperature"] or 0.0,
        )
        self._lacks_temperature = model.has_temperature and settings["temperature"] is None
        self._type_of_number = np.full(len(chemical_symbols), -1, np.int32)
        for k, symbol in enumerate(self.model.elements):
            self._type_of_number[atomic_numbers[symbol]] = k

    @property
    def cutoff(self) -> float:
        return max(*self.model.radial_cutoffs, *self.model.angular_cutoffs)

    @property
    def source(self) -> str | dict[str, str]:
        """What makes this model again: the path of its file, or its text if it came from memory."""
        return self.path if self.path is not None else {"text": self.model.format()}

    def check(self, atoms: Atoms, are_elements_known: bool) -> None:
        """Raise ValueError for atoms that the model cannot describe, or a temperature that was not given."""
        if self._lacks_temperature:
            raise ValueError(
                f"{self.model.token} is a model of the free energy: it needs a temperature in K, and none was given"
            )
        if not are_elements_known:
            self._check_elements(atoms)
        if self.model.charge_mode > 0 and not all(atoms.pbc.tolist()):
            raise ValueError(
                "a model with charges needs a cell that is periodic in all three directions, got "
                f"pbc = {atoms.pbc.tolist()}. Put vacuum around the atoms, as atoms.center(vacuum=10.0, axis=2), and "
                "set atoms.pbc = True"
            )

    def _check_elements(self, atoms: Atoms) -> None:
        is_element = (atoms.numbers >= 0) & (atoms.numbers < len(self._type_of_number))
        types = self._type_of_number[np.where(is_element, atoms.numbers, 0)]
        unknown = sorted(set(atoms.numbers[~is_element | (types < 0)].tolist()))
        if unknown:
            names = " ".join(
                chemical_symbols[number]
                if 0 <= number < len(chemical_symbols)
                else f"the atomic number {number}"
                for number in unknown
            )
            raise ValueError(
                f"the model knows the elements {' '.join(self.model.elements)}, got {names}"
            )

    def set_neighbors(self, numbers: np.ndarray, neighbors: VerletList) -> None:
        types = self._type_of_number[numbers]
        self._evaluator.set_neighbors(
            len(numbers), types, neighbors.first, neighbors.second, neighbors.shifts
        )

    def evaluate(self, atoms: Atoms, **options: Any) -> dict[str, Any]:
        return self._evaluator.evaluate(atoms.positions, atoms.cell.array, **options)

    def descriptors(self, atoms: Atoms) -> np.ndarray:
        return self._evaluator.descriptors(atoms.positions, atoms.cell.array)

    def tensor(self, atoms: Atoms) -> np.ndarray:
        return self._evaluator.tensor(atoms.positions, atoms.cell.array)


def _open(source: ModelSource | dict[str, str]) -> tuple[Model, str | None]:
    """A model from whatever stands for it, and the path of its file, if there is one.

    One of the caller's is copied: what the caller does to it later must not show when the evaluator is built anew.
    """
    if isinstance(source, Model):
        return Model(source), None
    if isinstance(source, dict):
        return Model.parse(source["text"], "model in memory"), None
    return Model.read(source), str(Path(source).resolve())


def mechanical_results(
    energy: float, forces: np.ndarray, virial: np.ndarray | None, volume: float
) -> dict[str, Any]:
    """Results under ASE's names.

    Parameters
    ----------
    energy, forces, virial : eV, (n_atoms, 3) eV/Å, (3, 3) eV or None.
    volume : Å³; 0 for a cell without one, where there is no stress.
    """
    results: dict[str, Any] = {
        "energy": float(energy),
        "free_energy": float(energy),
        "forces": forces,
    }
    if virial is not None and volume > 0.0:
        results["stress"] = to_voigt(-virial / volume)
    return results


class _ModelCalculator(Calculator):
    """What one model and a committee share: settings, neighbour list, checks, serialisation."""

    nolabel = True  # `ase run` must not give a label
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012 (ASE's own form)
    default_parameters: dict[str, Any] = {  # noqa: RUF012 (ASE's own form)
        "total_charge": 0.0,
        "kspace": "auto",
        "accuracy": 1e-5,
        "mean_correction": True,
        "precision": "double",
        "simd": "auto",
        "n_threads": 1,
        "temperature": None,
        "skin": 1.0,
    }

    def __init__(self, sources: Sequence[ModelSource | dict[str, str]], settings: dict[str, Any]):
        # Evaluator and neighbour list serve one thread at a time.
        self._lock = threading.RLock()
        # Before the base class, which has settings of its own: these are not for a calculator without files.
        _check_settings(settings, type(self).__name__)
        super().__init__(**settings)
        self._kept: Atoms | None = None
        self._set_up([_open(source) for source in sources])

    def _set_up(self, models: Sequence[tuple[Model, str | None]]) -> None:
        if self.parameters["temperature"] and not any(model.has_temperature for model, _ in models):
            raise ValueError(
                f"temperature is for models of the free energy, got {self.parameters['temperature']:g} K for "
                + ", ".join(model.token for model, _ in models)
            )
        members = [_Member(model, path, self.parameters) for model, path in models]
        self._neighbors = VerletList(
            max(member.cutoff for member in members),
            self.parameters["skin"],
            self.parameters["n_threads"],
        )
        self._members = members
        self._numbers = np.empty(0, int)

    def set(self, **settings: Any) -> dict[str, Any]:
        """Change settings, but not the model; what was calculated with the old ones is dropped.

        Returns the settings that are different now.

        Raises
        ------
        TypeError : there is no such setting. For another model make another calculator.
        ValueError : a value that cannot be used. All settings are then as they were.
        """
        with self._lock:
            _check_settings(settings, type(self).__name__)
            before = dict(self.parameters)
            changed = super().set(**settings)
            is_ready = hasattr(
                self, "_members"
            )  # not yet where the base class sets those of the constructor
            if not (is_ready and changed):
                return changed
            if not changed.keys() <= EVALUATION_SETTINGS:
                try:
                    self._set_up([(member.model, member.path) for member in self._members])
                except Exception:
                    self.parameters.update(before)
                    raise
            self.reset()
            return changed

    # --- serialisation --------------------------------------------------------------------------------------------

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Settings as plain numbers and strings, from which `fromdict` makes the same calculator."""
        return {**super().todict(skip_default), **self._sources_to_dict()}

    @abstractmethod
    def _sources_to_dict(self) -> dict[str, Any]:
        """Return the models under the name of the constructor's argument."""

    def __getstate__(self) -> dict[str, Any]:
        state = {
            key: value
            for key, value in self.__dict__.items()
            if key not in ("_members", "_neighbors", "_lock")
        }
        return {
            **state,
            "_texts": [(member.path, member.model.format()) for member in self._members],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        texts = state.pop("_texts")
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self._set_up([(Model.parse(text, path or "model in memory"), path) for path, text in texts])

    def __copy__(self) -> _ModelCalculator:
        """Return an independent calculator: one that shared the atoms would take the other's results for its own."""
        return copy.deepcopy(self)

    # --- evaluation -----------------------------------------------------------------------------------------------

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """Return a result under ASE's name, calculated if need be; one thread at a time."""
        with self._lock:  # around it all, else the result may be that of another thread's atoms
            return super().get_property(name, atoms, allow_calculation)

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """Return what differs from the atoms of the last results.

        Exactly, whatever `tol`: ASE's comparison to within 1e-15 takes as long as a tenth of an evaluation.
        """
        old = self.atoms
        if old is None:
            return list(all_changes)
        return [
            name
            for name, is_same in (
                ("positions", are_equal(old.positions, atoms.positions)),
                ("numbers", are_equal(old.numbers, atoms.numbers)),
                ("cell", are_identical(old.cell.array, atoms.cell.array)),
                ("pbc", are_identical(old.pbc, atoms.pbc)),
            )
            if not is_same
        ]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate the atoms; ASE calls this when a result is missing.

        Results of other atoms are dropped; those of the same atoms stay, whatever their property.
        """
        with self._lock:
            # What the base class does, without a look at the disk: there are no files.
            if atoms is not None:
                if self.check_state(atoms):
                    self.results = dict[str, Any]()
                self.atoms = self._copy(atoms)
            if self.atoms is None:
                raise ValueError("there are no atoms to evaluate")
            try:
                self._prepare(self.atoms)
                self._evaluate(self.atoms, properties)
            except Exception:
                self.results.clear()  # of other atoms, which must not pass for those of these
                raise

    def _copy(self, atoms: Atoms) -> Atoms:
        """Return what the results depend on: numbers, positions, cell and pbc.

        Where only the positions differ from the last copy they are written into it: a new one takes a third of all of
        this class's time.
        """
        kept = self._kept
        if (
            kept is not None
            and are_equal(kept.numbers, atoms.numbers)
            and are_identical(kept.cell.array, atoms.cell.array)
            and are_identical(kept.pbc, atoms.pbc)
        ):
            kept.positions[:] = atoms.positions
        else:
            kept = self._kept = Atoms(
                atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc
            )
        return kept

    @abstractmethod
    def _evaluate(self, atoms: Atoms, properties: Sequence[str]) -> None:
        """Add the results for atoms that are prepared."""

    def _prepare(self, atoms: Atoms) -> None:
        """Check the atoms and give every member a neighbour list that holds for them."""
        are_same = are_equal(self._numbers, atoms.numbers)
        for member in self._members:
            member.check(atoms, are_elements_known=are_same)
        is_new = self._neighbors.update(atoms.positions, atoms.cell.array, atoms.pbc)
        if is_new or not are_same:
            self._numbers = np.empty(0, int)  # should a member fail, none is taken for prepared
            for member in self._members:
                member.set_neighbors(atoms.numbers, self._neighbors)
            self._numbers = atoms.numbers.copy()

    def _options(self, member: _Member, properties: Sequence[str]) -> dict[str, Any]:
        options = {
            "forces": True,
            "virials": "stresses" in properties or "virials" in properties,
        }
        if member.model.charge_mode > 0:
            options |= {
                key: self.parameters[key]
                for key in ("total_charge", "kspace", "accuracy", "mean_correction")
            }
            options["born"] = "born_effective_charges" in properties
        return options

    def _results_of(
        self, member: _Member, atoms: Atoms, properties: Sequence[str]
    ) -> dict[str, Any]:
        """Evaluate one potential; the results under ASE's names."""
        output = member.evaluate(atoms, **self._options(member, properties))
        volume = cell_volume(atoms.cell.array, atoms.pbc)
        results = mechanical_results(output["energy"], output["forces"], output["virial"], volume)
        results["energies"] = output["energies"]
        if not (math.isfinite(results["energy"]) and np.isfinite(results["forces"]).all()):
            raise ValueError(
                "energy or forces are not finite: atoms are too close together for this model"
            )
        if "virials" in output:
            results["virials"] = output["virials"]
            if volume > 0.0:
                results["stresses"] = to_voigt(-output["virials"] / volume)
        if "charges" in output:
            results["charges"] = output["charges"]
        if "born_charges" in output:
            results["born_effective_charges"] = output["born_charges"]
        return results

    def get_born_effective_charges(
        self, atoms: Atoms | None = None
    ) -> np.ndarray:  # [n_atoms, 3, 3]
        """Return the Born effective charges, e; first axis the field's direction, second the displacement's.

        They sum to the identity times sqrt(epsilon_inf) times the total charge.
        """
        return self.get_property("born_effective_charges", atoms)

    def get_virials(self, atoms: Atoms | None = None) -> np.ndarray:  # [n_atoms, 3, 3]
        """Return per-atom virials, eV, position index first, in the form that gives the right heat flux.

        They are not symmetric; their sum is. J. Chem. Phys. 157, 114801 (2022), doi:10.1063/5.0106617.
        """
        return self.get_property("virials", atoms)


class QNEP(_ModelCalculator):
    """ASE calculator of a NEP or qNEP model.

    Parameters
    ----------
    model : path of a ``nep.txt`` file, or a `qnep.Model`.
    total_charge : e, of the cell; models without charges make no use of it.
    kspace : ``"auto"``, ``"ewald"`` or ``"pppm"``: how the reciprocal part of the Coulomb energy is summed.
    accuracy : eV/Å, root mean square error of the mesh's forces against the Ewald sum at unit charges.
    mean_correction : subtract the mean of the potentials in the force, as the gradient of the neutrality shift demands.
        Only for comparison with files of codes that lack it should it be off.
    precision : ``"double"`` or ``"single"``.
    simd : instruction set, ``"auto"`` for the best of this processor.
    n_threads : of the evaluation and of the neighbour search, 1 to 1024. In a child that was forked after the parent
        had evaluated with several threads the evaluation has one.
    temperature : K, for models of the free energy, which cannot be evaluated without one.
    skin : Å, by which the neighbour list exceeds the cutoff; it is reused until atoms have moved half of it.

    Notes
    -----
    Results: energy, free_energy, energies (eV), forces (eV/Å), stress, stresses (eV/Å³, tension positive; the stresses
    of the atoms sum to the stress), virials (eV), and for models with charges: charges and Born effective charges (e).
    Models of the dipole or the polarizability give only that. Born charges and per-atom virials are calculated when
    asked for.

    Threads of Python may share a calculator: it works for one after the other. Copies, also those of `copy.copy`, are
    independent of each other.

    Raises
    ------
    ModelError : the file is no model that can be evaluated.
    TypeError : no setting has this name.
    ValueError : a setting with a value that it cannot have; wrong atoms (unknown element, positions that are not
        finite, a cell without volume, two atoms at one place), or a model with charges where the cell is not periodic
        in all directions; a model of the free energy without a temperature.

    Examples
    --------
    >>> atoms.calc = QNEP("nep.txt")  # doctest: +SKIP
    >>> atoms.get_potential_energy()  # doctest: +SKIP
    """

    name = "qnep"

    def __init__(self, model: ModelSource | dict[str, str], **settings: Any):
        super().__init__([model], settings)

    def _set_up(self, models: Sequence[tuple[Model, str | None]]) -> None:
        super()._set_up(models)
        self.implemented_properties = _properties(self._members[0].model)

    @property
    def model(self) -> Model:
        """A copy of the model; changes to it have no effect on the results."""
        return Model(self._members[0].model)

    @classmethod
    def fromdict(cls, settings: dict[str, Any]) -> QNEP:
        """Make a calculator from what `todict` returned."""
        settings = dict(settings)
        return cls(settings.pop("model"), **settings)

    def _sources_to_dict(self) -> dict[str, Any]:
        return {"model": self._members[0].source}

    def _evaluate(self, atoms: Atoms, properties: Sequence[str]) -> None:
        member = self._members[0]
        if member.model.kind == "potential":
            self.results.update(self._results_of(member, atoms, properties))
        else:
            self.results[member.model.kind] = member.tensor(atoms)

    def get_polarizability(self, atoms: Atoms | None = None) -> np.ndarray:  # [3, 3]
        """Return the polarizability of the cell in the units of the model's training data."""
        return self.get_property("polarizability", atoms)

    def evaluate(
        self, atoms: Atoms, response: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> dict[str, Any]:
        """Return the evaluator's own arrays (energy, forces, virial, charges ...) without storing results.

        ``response`` gets the charges (n_atoms,), e, and returns potentials (n_atoms,), V, of an energy that the caller
        adds; the part of its forces that comes from the charges' dependence on the positions is then included.
        """
        with self._lock:
            self._prepare(atoms)
            member = self._members[0]
            return member.evaluate(atoms, **self._options(member, ()), response=response)

    def get_descriptors(self, atoms: Atoms) -> np.ndarray:  # [n_atoms, n_descriptors]
        """Return the descriptors of all atoms, not scaled."""
        with self._lock:
            self._prepare(atoms)
            return self._members[0].descriptors(atoms)


def _properties(model: Model) -> list[str]:
    """ASE's names of what a model gives."""
    if model.kind != "potential":
        return [model.kind]
    properties = ["energy", "free_energy", "energies", "forces", "stress", "stresses", "virials"]
    return (
        [*properties, "charges", "born_effective_charges"] if model.charge_mode > 0 else properties
    )


class Committee(_ModelCalculator):
    """Mean and scatter of several models on one neighbour list.

    Parameters
    ----------
    models : at least two paths of ``nep.txt`` files or `qnep.Model` objects; potentials, either all or none of them
        with charges.
    **settings : as for `QNEP`.

    Notes
    -----
    All results of `QNEP` are means over the models. Besides, ``results["forces_std"]`` (n_atoms, 3), eV/Å, and
    ``results["energy_std"]``, eV, hold the standard deviation over the models (dividing by their number, as model
    deviations usually do), and ``results["member_forces"]`` (n_models, n_atoms, 3) the forces of each.
    """

    name = "qnep-committee"

    def __init__(self, models: Sequence[ModelSource | dict[str, str]], **settings: Any):
        if isinstance(models, str | PathLike) or len(models) < 2:
            raise ValueError(
                "a committee needs a list of at least two models; for one model use QNEP"
            )
        super().__init__(list(models), settings)

    def _set_up(self, models: Sequence[tuple[Model, str | None]]) -> None:
        super()._set_up(models)
        kinds = {(member.model.kind, member.model.charge_mode > 0) for member in self._members}
        if len(kinds) > 1 or next(iter(kinds))[0] != "potential":
            tokens = ", ".join(member.model.token for member in self._members)
            raise ValueError(
                f"a committee needs potentials, all with or all without charges, got {tokens}"
            )
        self.implemented_properties = [
            *_properties(self._members[0].model),
            "forces_std",
            "energy_std",
            "member_forces",
        ]

    @property
    def models(self) -> list[Model]:
        """Copies of the models; changes to them have no effect on the results."""
        return [Model(member.model) for member in self._members]

    @classmethod
    def fromdict(cls, settings: dict[str, Any]) -> Committee:
        """Make a committee from what `todict` returned."""
        settings = dict(settings)
        return cls(settings.pop("models"), **settings)

    def _sources_to_dict(self) -> dict[str, Any]:
        return {"models": [member.source for member in self._members]}

    def _evaluate(self, atoms: Atoms, properties: Sequence[str]) -> None:
        members = [self._results_of(member, atoms, properties) for member in self._members]
        for key in members[0]:
            self.results[key] = np.mean([results[key] for results in members], axis=0)
        forces = np.array([results["forces"] for results in members])
        self.results["member_forces"] = forces
        self.results["forces_std"] = forces.std(axis=0)
        self.results["energy_std"] = float(np.std([results["energy"] for results in members]))

    def get_forces_std(self, atoms: Atoms | None = None) -> np.ndarray:  # [n_atoms, 3]
        """Return the standard deviation of the forces over the models, eV/Å."""
        return self.get_property("forces_std", atoms)
