"""The configuration file of a run as typed objects, and the loop that is made of them."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ase import Atoms

from qnep.dft.backends import backend_settings
from qnep.dft.kpoints import format_grid
from qnep.dft.label import Limits, settings_for
from qnep.dft.reference_calculator import chosen_grid
from qnep.dft.settings import Settings
from qnep.io import read_frames
from qnep.learn.alarms import BondJump, ClosestPair, EnergyJump, ForceCeiling, Temperature
from qnep.learn.exploration import LammpsSettings
from qnep.learn.learner import Learner, Parts, Start
from qnep.learn.policies import POLICIES
from qnep.learn.reference import Reference
from qnep.learn.similarity import SimilarityScreen
from qnep.learn.state import RunLock, StateError
from qnep.learn.threshold import AdaptiveThreshold
from qnep.learn.trainer import FineTuner
from qnep.total_charge import total_charge_in

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLES = ("dynamics", "exploration", "start", "reference", "gates", "options", "trainer")
TRAINING_TABLES = ("model", "training", "loss")
KEYS = ("policy", "structure", "output", "pool", "seed")
FILE_KEYS = ("structure", "output", "pool")

FREE_KEYS = {
    "options": ("n_steps", "max_returns", "max_attempts"),
    "reference": ("time_limit_s", "n_threads", "net_force", "force"),
    "exploration": ("command", "n_threads"),
}
"""What may change when a run is resumed."""

AT_THE_TOP = "it belongs to the top of the file, before all tables"
KEYS_OF_THE_RUN = {
    "data": "a run trains on the labels of its pool, which the key pool at the top of the file names; labels that were "
    "made before come there by qnep label --adopt",
    "replay": "old labels of the pool are replayed anyhow; n_replay of [trainer] says how many",
    "n_replay": "it belongs to [trainer]",
    "seed": AT_THE_TOP,
    "output": AT_THE_TOP,
}
"""Keys of [training] that the run sets by itself -> where they belong."""

UNCERTAINTY_OF_POLICY = {"aofl": "deviation", "haml": "grade", "interface-reactor": "deviation"}
THRESHOLDS = {"deviation": (0.15, 0.03, 1.0), "grade": (3.0, 1.5, 10.0)}
"""First value and limits of the adaptive threshold: eV/Å, and without unit."""


class ConfigurationError(ValueError):
    """A configuration that cannot be used; the text names the key."""


@dataclass(frozen=True)
class DynamicsSettings:
    """As in `Parts`: K, fs, 1/fs, steps."""

    temperature: float = 300.0
    timestep_fs: float = 0.5
    friction: float = 0.01
    check_interval: int = 10
    write_interval: int = 50


@dataclass(frozen=True)
class ReferenceSettings:
    """Backend of the labels, limits of one label, eV/Å, and of its wall time, s."""

    backend: str = "tblite"
    net_force: float = 1.0
    force: float = 25.0
    time_limit_s: float = 7200.0
    n_threads: int = 1


@dataclass(frozen=True)
class GateSettings:
    """Thresholds of the gates.

    uncertainty : "deviation" or "grade"; empty: as the policy has it.
    tolerated_error : eV/Å, force error that the adaptive threshold is calibrated to.
    threshold : first value, lower and upper limit of the adaptive threshold; three equal numbers fix it.
    similarity : distance in units of the spread of the data.
    closest_pair : in sums of covalent radii.
    temperature_excess : fraction of the temperature.
    energy_jump : eV per atom between two looks; bond_jump : bonds; force_ceiling : eV/Å.
    """

    uncertainty: str = ""
    tolerated_error: float = 0.25
    threshold: tuple[float, ...] = ()
    similarity: float = 0.1
    closest_pair: float = 0.6
    temperature_excess: float = 0.5
    energy_jump: float = 0.1
    bond_jump: float = 4.0
    force_ceiling: float = 25.0


@dataclass(frozen=True)
class TrainerSettings:
    """As in `FineTuner`."""

    fine_tune_epochs: int = 30
    fine_tune_rate: float = 3e-3
    n_replay: int = 0


@dataclass(frozen=True)
class Configuration:
    """A configuration file: where it is, and its tables as they are written there."""

    path: Path
    tables: dict[str, Any]

    @property
    def output(self) -> Path:
        """Folder of the run."""
        return self.path.parent / self.tables.get("output", self.path.stem)

    @property
    def structure(self) -> Path:
        """File of the structure that the run begins with."""
        return self.path.parent / self.tables["structure"]

    @property
    def seed(self) -> int:
        """Seed of everything."""
        return self.tables.get("seed", 0)

    @property
    def digest(self) -> str:
        """Characters that change with everything that decides the course of a run, contents of files included."""
        fixed = {
            name: {key: value for key, value in table.items() if key not in FREE_KEYS.get(name, ())}
            if isinstance(table, Mapping)
            else table
            for name, table in self.tables.items()
            if name != "output"
        }
        text = json.dumps(fixed, sort_keys=True, default=str).encode()
        digest = hashlib.sha256(text + self.structure.read_bytes())
        for path in (*self.start_files("structures"), *self.start_files("models")):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    def start_files(self, key: str) -> list[Path]:
        """Return the files of a list in [start], ``"structures"`` or ``"models"``."""
        names = self.tables.get("start", {}).get(key, [])
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError(f"{key} of [start] must be a list of files, got {names!r}")
        return [self.path.parent / name for name in names]


def read_configuration(path: Path) -> Configuration:
    """Read a TOML file; paths in it are relative to its folder.

    Raises
    ------
    ConfigurationError : not TOML, unknown keys or tables, no policy or structure, a seed or name that is none.
    """
    try:
        tables = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as failure:
        raise ConfigurationError(f"{path}: not TOML: {failure}") from failure
    for name, value in tables.items():
        if name not in (*KEYS, *TABLES, *TRAINING_TABLES):
            known = ", ".join([*KEYS, *(f"[{table}]" for table in (*TABLES, *TRAINING_TABLES))])
            raise ConfigurationError(f"{path}: unknown key {name!r}; there are {known}")
        if isinstance(value, Mapping) == (name in KEYS):
            raise ConfigurationError(
                f"{path}: {name} must be {'a value' if name in KEYS else 'a table'}"
            )
        if name in FILE_KEYS and not isinstance(value, str):
            raise ConfigurationError(f"{path}: {name} must be the name of a file, got {value!r}")
    seed = tables.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ConfigurationError(
            f"{path}: seed must be a whole number that is not negative, got {seed!r}"
        )
    if tables.get("policy") not in list(POLICIES):  # a list: what comes may not be hashable
        raise ConfigurationError(
            f"{path}: policy must be one of {', '.join(POLICIES)}, got {tables.get('policy')!r}"
        )
    if "structure" not in tables:
        raise ConfigurationError(f"{path}: structure, the file to begin with, is missing")
    return Configuration(path, tables)


def make_learner(configuration: Configuration, resume: bool) -> Learner:
    """Return the loop that a configuration describes.

    Raises
    ------
    ConfigurationError, SettingsError : a value that cannot be used.
    StateError, PoolError : the run or the pool on disk does not fit, or another process works with it.
    """
    from qnep._optional import require

    require("torch", extra="train")
    path, tables = configuration.path, configuration.tables
    if configuration.output.is_dir():
        # The pool of a run is locked too; who starts a run twice is to read about the run.
        RunLock(configuration.output).release()
    try:
        training = _training_settings(configuration)
        elements = training.model.elements
        dynamics: DynamicsSettings = _build(DynamicsSettings, configuration, "dynamics")
        values = {
            "atoms": _read_structure(configuration.structure, elements),
            "policy": _build(POLICIES[tables["policy"]], configuration, "options"),
            "start": _make_start(configuration, elements),
            "trainer": FineTuner(
                training, **vars(_build(TrainerSettings, configuration, "trainer"))
            ),
            "seed": configuration.seed,
            "lammps": _make_lammps(configuration),
            **vars(dynamics),
        }
        values |= _gates(configuration, dynamics.temperature)
        if values["threshold"].is_adaptive:  # now, and not when labels have been spent
            require("sklearn.isotonic", extra="learn")
        _check_committee(values["uncertainty"], training.training.members, values["start"].models)
        structures = {configuration.structure: values["atoms"]}
        structures |= zip(configuration.start_files("structures"), values["start"].structures)
        _check_periodicity(structures, training.model.charge_mode)
        reference = _make_reference(configuration, elements, structures)
        with ExitStack() as on_failure:
            on_failure.callback(reference.close)
            parts = Parts(reference=reference, **values)
            learner = Learner(parts, configuration.output, configuration.digest, resume)
            on_failure.pop_all()
    except StateError:
        raise
    except ValueError as failure:
        text = str(failure)
        if text.startswith(str(path)):
            raise
        raise ConfigurationError(f"{path}: {text}") from failure
    return learner


def _build(kind: type, configuration: Configuration, name: str, **own: Any) -> Any:
    """Return the typed object of a table; `own` replaces what the file says, None leaves it out."""
    from qnep.train.settings import build_from_table

    table = {**configuration.tables.get(name, {}), **own}
    table = {key: value for key, value in table.items() if value is not None}
    return build_from_table(kind, table, f"{configuration.path}, [{name}]")


def _training_settings(configuration: Configuration) -> Any:
    """Return the settings of `qnep train` in the file, with the seed of the run.

    Where models are given, [model] may only repeat what they are.
    """
    from qnep.train.settings import settings_of_tables

    tables = {k: v for k, v in configuration.tables.items() if k in TRAINING_TABLES}
    for key, where in KEYS_OF_THE_RUN.items():
        if key in tables.get("training", {}):
            raise ValueError(f"{key} of [training] must be left out: {where}")
    training = _located(tables.get("training", {}), configuration.path.parent)
    models = configuration.start_files("models")
    for path in models:
        if not path.is_file():
            raise ValueError(f"models of [start]: there is no file {path}")
    if models and training.get("fine_tune"):
        raise ValueError("fine_tune of [training] and models of [start] exclude each other")
    starts = [str(model) for model in models] or [training.get("fine_tune", "")]
    settings, *others = (
        settings_of_tables(
            {**tables, "training": {**training, "fine_tune": start}}, str(configuration.path)
        )
        for start in starts
    )
    for start, other in zip(starts[1:], others):
        if replace(other.model, zbl_pairs=settings.model.zbl_pairs) != settings.model:
            raise ValueError(
                f"models of [start]: {start} is of another kind than {starts[0]}: members of a committee differ in "
                "their parameters only"
            )
    if settings.training.baseline:
        raise ValueError(
            "baseline of [training] must be left out: the dynamics would be driven by the trained difference alone"
        )
    return replace(settings, training=replace(settings.training, seed=configuration.seed))


def _located(training: Any, folder: Path) -> dict[str, Any]:
    """Return the table [training] with its files relative to a folder; what is no name is left to the check."""
    located = dict(training)
    for key in ("fine_tune", "validation", "test"):
        value = located.get(key)
        if isinstance(value, str) and value:
            located[key] = str(folder / value)
        elif isinstance(value, list):
            located[key] = [str(folder / name) if isinstance(name, str) else name for name in value]
    return located


def _read_structure(path: Path, elements: Sequence[str]) -> Atoms:
    """Return the last structure of a file; raises ValueError for none or elements that the model will not know."""
    frames = read_frames(path)
    if not frames or not len(frames[-1]):
        raise ValueError(f"the structure file {path} holds no atoms")
    atoms = frames[-1]
    unknown = sorted(set(atoms.get_chemical_symbols()) - set(elements))
    if unknown:
        raise ValueError(
            f"the model has the elements {' '.join(elements)}, {path} holds {' '.join(unknown)} too"
        )
    return atoms


def _make_start(configuration: Configuration, elements: Sequence[str]) -> Start:
    models = configuration.start_files("models")
    structures = [
        _read_structure(path, elements) for path in configuration.start_files("structures")
    ]
    return _build(Start, configuration, "start", structures=structures, models=models)


def _make_lammps(configuration: Configuration) -> LammpsSettings | None:
    """Return how LAMMPS drives, or None if ASE does."""
    table = configuration.tables.get("exploration", {})
    engine = table.get("engine", "ase")
    if engine not in ("ase", "lammps"):
        raise ValueError(f"engine of [exploration] must be ase or lammps, got {engine!r}")
    others = ", ".join(sorted(table.keys() - {"engine"}))
    if engine == "ase" and others:
        raise ValueError(f'[exploration] has {others} but not engine = "lammps"')
    if engine == "ase":
        return None
    return _build(LammpsSettings, configuration, "exploration", engine=None)


def _gates(configuration: Configuration, temperature: float) -> dict[str, Any]:
    """Return alarms, uncertainty, threshold and screen under the names of `Parts`."""
    settings: GateSettings = _build(GateSettings, configuration, "gates")
    uncertainty = settings.uncertainty or UNCERTAINTY_OF_POLICY[configuration.tables["policy"]]
    if uncertainty not in THRESHOLDS:
        raise ValueError(f"uncertainty must be one of {', '.join(THRESHOLDS)}, got {uncertainty!r}")
    numbers = settings.threshold or THRESHOLDS[uncertainty]
    if len(numbers) != 3:
        raise ValueError(f"threshold needs first value, lower and upper limit, got {numbers}")
    return {
        "uncertainty": uncertainty,
        "threshold": AdaptiveThreshold(settings.tolerated_error, *numbers),
        "screen": SimilarityScreen(settings.similarity),
        "alarms": [
            ClosestPair(settings.closest_pair),
            Temperature(temperature, settings.temperature_excess),
            EnergyJump(settings.energy_jump),
            BondJump(settings.bond_jump),
            ForceCeiling(settings.force_ceiling),
        ],
    }


def _check_committee(uncertainty: str, n_members: int, models: Sequence[Path]) -> None:
    if uncertainty == "deviation" and (n_members < 2 or len(models) == 1):
        raise ValueError(
            "the force deviation needs a committee: set members = 4 in [training] and give several models or none, "
            'or set uncertainty = "grade" in [gates]'
        )


def _make_reference(
    configuration: Configuration, elements: Sequence[str], structures: Mapping[Path, Atoms]
) -> Reference:
    """Return the reference with its pool; `settings` of the table change the preset of the backend."""
    changes = _reference_changes(configuration)
    settings: ReferenceSettings = _build(
        ReferenceSettings, configuration, "reference", settings=None
    )
    configuration.output.mkdir(parents=True, exist_ok=True)
    name = configuration.tables.get("pool")
    path = configuration.path.parent / name if name else configuration.output / "pool.db"
    try:
        level = backend_settings(settings.backend, **changes)
    except ValueError as failure:
        raise ValueError(f"[reference]: {failure}") from failure
    _check_charges(structures.values(), level.total_charge)
    _check_spin_and_grid(structures, level)
    return Reference(
        path,
        settings.backend,
        elements,
        level,
        Limits(settings.net_force, settings.force),
        settings.time_limit_s,
        settings.n_threads,
    )


def _check_periodicity(structures: Mapping[Path, Atoms], charge_mode: int) -> None:
    """Raise ValueError for a structure that training or models will refuse, before a label is spent on it."""
    for path, atoms in structures.items():
        if atoms.cell.rank < 3:
            raise ValueError(
                f"{path} has no cell with three vectors, which training needs: put the atoms into one, with vacuum "
                "around a molecule"
            )
        if charge_mode > 0 and not atoms.pbc.all():
            raise ValueError(
                "models with charges need structures periodic in x, y and z, the file of "
                f"{atoms.get_chemical_formula()} says pbc = {atoms.pbc.tolist()}: put vacuum around the atoms and make "
                "them periodic, or set charge_mode = 0 in [model]"
            )


def _check_charges(structures: Iterable[Atoms], total_charge: float) -> None:
    """Raise ValueError for a structure that names another charge, e, than the one that all labels will be of."""
    for atoms in structures:
        own = total_charge_in(atoms.info)
        if own is not None and own != total_charge:
            raise ValueError(
                f"the file of {atoms.get_chemical_formula()} says charge={own:g}, settings.total_charge of [reference] "
                f"is {total_charge:g}: make them agree"
            )


def _check_spin_and_grid(structures: Mapping[Path, Atoms], level: Settings) -> None:
    """Raise ValueError for a structure that names other unpaired electrons or k-points than its labels will be of."""
    for path, atoms in structures.items():
        own = settings_for(atoms, level)
        grids = [format_grid(chosen_grid(atoms, settings)) for settings in (own, level)]
        for name, said, ours in (
            ("n_unpaired", own.n_unpaired, level.n_unpaired),
            ("kpts", *grids),
        ):
            if said != ours:
                raise ValueError(
                    f"{path} says {name}={said}, settings of [reference] mean {ours}: make them agree"
                )


def _reference_changes(configuration: Configuration) -> dict[str, Any]:
    """Return what the file changes of the preset of the backend."""
    changes = configuration.tables.get("reference", {}).get("settings", {})
    if not isinstance(changes, Mapping):
        raise ValueError(f"settings of [reference] must be a table, got {changes!r}")
    return dict(changes)
