"""Settings of a training run as typed objects, from a TOML file or from GPUMD's nep.in."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from qnep.model import Model

TABLES = ("model", "training", "loss")
N_FLAGS = 6
LARGEST_CUTOFF = 20.0  # Å; beyond it a NEP is a mistake rather than a choice


class SettingsError(ValueError):
    """Settings that cannot be used; the text says what was wanted and what came."""


def _require_at_least(settings: Any, smallest: Mapping[str, float]) -> None:
    """Raise SettingsError for the first value that is below its limit or not finite."""
    for name, limit in smallest.items():
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= limit):
            raise SettingsError(f"{name} must be a number of at least {limit}, got {value}")


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss; none may be negative.

    energy ... dipole : lambda of each term, as in GPUMD's nep.in.
    shear : factor of the errors of off-diagonal virial components.
    elements : factor of the force errors of each type; empty: all 1.
    force_delta : eV/Å; forces f weigh delta/(delta + |f|), 0: all alike.
    huber : errors beyond so many root mean squares count linearly, 0: never.
    """

    energy: float = 1.0
    force: float = 1.0
    virial: float = 0.1
    charge: float = 0.1
    born: float = 0.5
    dipole: float = 0.1
    shear: float = 1.0
    elements: tuple[float, ...] = ()
    force_delta: float = 0.0
    huber: float = 0.0

    def __post_init__(self) -> None:
        terms = ("energy", "force", "virial", "charge", "born", "dipole")
        _require_at_least(self, dict.fromkeys((*terms, "shear", "force_delta", "huber"), 0))
        if not any(getattr(self, term) for term in terms):
            raise SettingsError(f"one of {', '.join(terms)} must be positive, got 0 for all")
        if not all(math.isfinite(factor) and factor >= 0 for factor in self.elements):
            raise SettingsError(
                f"elements must be numbers that are not negative, got {list(self.elements)}"
            )
        if self.elements and not any(self.elements):
            raise SettingsError(
                f"elements must hold a positive number, got {list(self.elements)}; "
                "force = 0 leaves all forces out"
            )


@dataclass(frozen=True)
class ModelSettings:
    """What kind of model is trained; names and defaults as in nep.in, lengths in Å.

    cutoff : R_radial, R_angular of all types, or such a pair for each type.
    l_max : largest l of three bodies, then up to six flags for 222 1111 112 123 233 134.
    zbl : outer radius of the universal repulsion, 0 for none; at most the angular cutoff, where ZBL ends.
    zbl_inner : radius within which it is full, 0 for half of the outer one.
    zbl_typewise_factor : of the covalent radii, 0 for the plain form.
    zbl_pairs : flexible form, ten numbers for each unordered pair of types as at the end of a model file.
    zbl_from_data : make `zbl_pairs` from the shortest distances in the data, with `zbl` as the largest outer radius.
    """

    elements: tuple[str, ...]
    charge_mode: int = 0
    cutoff: tuple[float, ...] = (8.0, 4.0)
    n_max: tuple[int, int] = (6, 6)
    basis_size: tuple[int, int] = (6, 6)
    l_max: tuple[int, ...] = (4, 1)
    neurons: int = 30
    zbl: float = 0.0
    zbl_inner: float = 0.0
    zbl_typewise_factor: float = 0.0
    zbl_pairs: tuple[float, ...] = ()
    zbl_from_data: bool = False

    def __post_init__(self) -> None:
        if not self.elements:
            raise SettingsError("no elements: give `type` (nep.in) or `elements` (TOML)")
        for name in ("n_max", "basis_size"):
            numbers = getattr(self, name)
            if len(numbers) != 2 or min(numbers) < 0:
                raise SettingsError(
                    f"{name} must be 2 numbers, radial and angular, that are not negative, "
                    f"got {list(numbers)}"
                )
        if not 1 <= len(self.l_max) <= 1 + N_FLAGS or self.l_max[0] < 1:
            raise SettingsError(
                f"l_max must be the largest l, at least 1, then up to {N_FLAGS} flags, "
                f"got {list(self.l_max)}"
            )
        _require_at_least(self, {"neurons": 1, "zbl": 0, "zbl_inner": 0, "zbl_typewise_factor": 0})
        if self.charge_mode not in (0, 1, 2):
            raise SettingsError(f"charge_mode must be 0, 1 or 2, got {self.charge_mode}")
        if len(self.cutoff) not in (2, 2 * len(self.elements)):
            raise SettingsError(
                f"cutoff needs 2 numbers or 2 for each of {len(self.elements)} types, "
                f"got {len(self.cutoff)}"
            )
        n_pairs = len(self.elements) * (len(self.elements) + 1) // 2
        if len(self.zbl_pairs) not in (0, 10 * n_pairs):
            raise SettingsError(
                f"flexible ZBL needs 10 numbers for each of {n_pairs} pairs of types, "
                f"got {len(self.zbl_pairs)}"
            )
        for name in ("zbl_from_data", "zbl_typewise_factor", "zbl_inner"):
            if getattr(self, name) and not self.zbl:
                raise SettingsError(f"{name} needs zbl, the largest outer radius in Å")
        if self.zbl_inner and (self.zbl_from_data or self.zbl_pairs):
            raise SettingsError(
                "zbl_inner is for the universal form; flexible ZBL has its own radii"
            )
        if self.zbl_inner and self.zbl_inner >= self.zbl:
            raise SettingsError(
                f"zbl_inner must be below zbl, {self.zbl:g} Å, got {self.zbl_inner:g}"
            )
        if self.charge_mode and len(set(zip(self.cutoff[::2], self.cutoff[1::2]))) > 1:
            raise SettingsError("a model with charges needs the same cutoffs for all types")
        for radial, angular in zip(self.cutoff[::2], self.cutoff[1::2]):
            if not 0 < angular <= radial <= LARGEST_CUTOFF:
                raise SettingsError(
                    "cutoffs must satisfy 0 < angular <= radial <= "
                    f"{LARGEST_CUTOFF:g} Å, got {radial:g} and {angular:g}"
                )
        outer = max([self.zbl, *self.zbl_pairs[1::10]])
        if outer > min(self.cutoff[1::2]):
            raise SettingsError(
                f"zbl must not reach beyond the angular cutoff, {min(self.cutoff[1::2]):g} Å, where the energy would "
                f"jump, got {outer:g} Å"
            )

    @property
    def has_repulsion(self) -> bool:
        return self.zbl > 0 or len(self.zbl_pairs) > 0

    def make_model(self) -> Model:
        """Return the model with all parameters zero; raises ModelError for settings that no model can have."""
        from qnep.model import Model

        model = Model()
        model.elements = list(self.elements)
        model.charge_mode = self.charge_mode
        if self.zbl_pairs:
            model.zbl = "flexible"
        elif self.zbl:
            model.zbl = "typewise" if self.zbl_typewise_factor else "universal"
            model.zbl_inner_cutoff = self.zbl_inner or self.zbl / 2
            model.zbl_outer_cutoff = self.zbl
            model.zbl_typewise_factor = self.zbl_typewise_factor
        n_copies = len(self.elements) if len(self.cutoff) == 2 else 1
        model.radial_cutoffs = list(self.cutoff[::2]) * n_copies
        model.angular_cutoffs = list(self.cutoff[1::2]) * n_copies
        model.has_uniform_cutoffs = len(self.cutoff) == 2
        model.n_max_radial, model.n_max_angular = self.n_max
        model.basis_size_radial, model.basis_size_angular = self.basis_size
        model.l_max = self.l_max[0]
        flags = self.l_max[1:]
        model.invariants = [bool(flag) for flag in flags] + [False] * (N_FLAGS - len(flags))
        model.n_neurons = self.neurons
        model.parameters = np.concatenate([np.zeros(model.zbl_offset), self.zbl_pairs])
        model.check()
        return model


_SMALLEST = {
    "epochs": 0,
    "batch_size": 0,
    "final_learning_rate": 0,
    "warm_up_steps": 0,
    "weight_decay": 0,
    "smoothness": 0,
    "gradient_clip": 0,
    "population": 2,
    "polish_rounds": 0,
    "patience": 0,
    "members": 1,
    "n_replay": 0,
    "processes": 1,
    "seed": 0,
}
"""Limits of the numbers of `TrainingSettings`."""


NO_VALIDATION = "patience needs a validation set, whose error decides: give validation_fraction or files for validation"


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained.

    data, validation, test : files of labelled structures; without files for the last two, fractions of the
        trajectories in `data` are held out.
    epochs, batch_size : passes over the data; structures per step, 0: chosen.
    learning_rate, final_learning_rate : Adam's, after warm-up and at the end of the cosine.
    warm_up_steps : with a linearly growing learning rate; at most a tenth of all steps.
    weight_decay : decoupled, of weights and coefficients; not of biases, energies and charges of the elements.
    smoothness : of the start: the coefficient of the k-th radial function begins with a size of (1 + k)^-smoothness.
        0.5 suits a single material; 1 keeps a model of few and diverse structures from wiggling between them.
    initial_charges : e, of each element, to begin with, when no model is fine-tuned. They decide the signs, but nothing
        holds charges there: without Born charges in the data the fit drifts away. Empty: 0.
    gradient_clip : gradients longer than so many running means are shortened, 0: never.
    averaging : of the parameters over the last 1/(1 - averaging) steps; the average is the result.
    optimizer : "adam" or "snes".
    polish_rounds : rounds of 20 L-BFGS steps on all data after that.
    patience : epochs without a better validation error before stopping, 0: never stop.
    energy_shift : begin with energies of the elements that explain those of the data: all of them from scratch, and
        what another zero of energy asks for where a model is fine-tuned.
    members, bootstrap : size of a committee; each member sees a resampled data set.
    fine_tune : model file to start from; replay, n_replay : older data of which so many structures join, 0: all.
    new_weight : weight of new structures against replayed ones.
    baseline : "package.module:function" that returns an ASE calculator whose energies, forces and stress are taken off
        the labels (for instance charge equilibration at constant total charge).
    precision : "single" or "double"; processes : data-parallel workers; device : "cpu", "cuda" or "auto".
    memory_GB : tables beyond this are kept on disk and streamed, 0: four fifths of what is free.
    """

    data: tuple[str, ...] = ("train.xyz",)
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    validation_fraction: float = 0.0
    test_fraction: float = 0.0
    epochs: int = 300
    batch_size: int = 0
    learning_rate: float = 5e-3
    final_learning_rate: float = 1e-5
    warm_up_steps: int = 200
    weight_decay: float = 0.0
    smoothness: float = 0.5
    initial_charges: tuple[float, ...] = ()
    gradient_clip: float = 10.0
    averaging: float = 0.99
    optimizer: str = "adam"
    population: int = 50
    polish_rounds: int = 0
    patience: int = 0
    energy_shift: bool = True
    members: int = 1
    bootstrap: bool = False
    fine_tune: str = ""
    replay: tuple[str, ...] = ()
    n_replay: int = 0
    new_weight: float = 1.0
    baseline: str = ""
    precision: str = "single"
    processes: int = 1
    device: str = "auto"
    memory_GB: float = 0.0
    seed: int = 0
    output: str = "."

    def __post_init__(self) -> None:
        choices = {
            "optimizer": ("adam", "snes"),
            "precision": ("single", "double"),
            "device": ("auto", "cpu", "cuda"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise SettingsError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        _require_at_least(self, _SMALLEST)
        for name in ("learning_rate", "new_weight"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise SettingsError(f"{name} must be positive, got {getattr(self, name)}")
        if not self.memory_GB >= 0:  # infinite is a way to say: never on disk
            raise SettingsError(f"memory_GB must not be negative, got {self.memory_GB}")
        if not all(map(math.isfinite, self.initial_charges)):
            raise SettingsError(f"initial_charges must be finite, got {list(self.initial_charges)}")
        for name in ("validation_fraction", "test_fraction", "averaging"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(
                    f"{name} must be at least 0 and below 1, got {getattr(self, name)}"
                )
        if self.patience and not (self.validation or self.validation_fraction):
            raise SettingsError(NO_VALIDATION)


@dataclass(frozen=True)
class Settings:
    """A whole run; `notes` says which keywords of a nep.in were ignored and why."""

    model: ModelSettings
    training: TrainingSettings = field(default_factory=TrainingSettings)
    loss: LossWeights = field(default_factory=LossWeights)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n_wanted, n_given = len(self.model.elements), len(self.loss.elements)
        if n_given not in (0, n_wanted):
            raise SettingsError(
                f"elements of the loss must be {n_wanted} numbers, one for each of "
                f"{' '.join(self.model.elements)}, got {n_given}"
            )
        n_charges = len(self.training.initial_charges)
        if n_charges and not self.model.charge_mode:
            raise SettingsError("initial_charges needs a model with charges, charge_mode 1 or 2")
        if n_charges not in (0, n_wanted):
            raise SettingsError(f"initial_charges must be {n_wanted} numbers, got {n_charges}")


def settings_of_model(model: Model) -> ModelSettings:
    """Return the settings of an existing model, to go on training it."""
    flags = tuple(int(flag) for flag in model.invariants)
    uniform = len(set(model.radial_cutoffs)) == 1 and len(set(model.angular_cutoffs)) == 1
    n_pairs = 1 if uniform else len(model.elements)
    has_radii = model.zbl in ("universal", "typewise")
    cutoffs = [c for pair in zip(model.radial_cutoffs, model.angular_cutoffs) for c in pair]
    return ModelSettings(
        elements=tuple(model.elements),
        charge_mode=model.charge_mode,
        cutoff=tuple(cutoffs[: 2 * n_pairs]),
        n_max=(model.n_max_radial, model.n_max_angular),
        basis_size=(model.basis_size_radial, model.basis_size_angular),
        l_max=(model.l_max, *flags),
        neurons=model.n_neurons,
        zbl=model.zbl_outer_cutoff if has_radii else 0.0,
        zbl_inner=model.zbl_inner_cutoff if has_radii else 0.0,
        zbl_pairs=tuple(np.array(model.parameters)[model.zbl_offset :].tolist()),
        zbl_typewise_factor=model.zbl_typewise_factor if model.zbl == "typewise" else 0.0,
    )


def read_settings(path: str | Path, fine_tune: str = "") -> Settings:
    """Read a TOML file with the tables [model], [training], [loss], or a nep.in.

    Paths in it are relative to its folder. Where a model is fine-tuned, its file has the settings of the model.

    Parameters
    ----------
    fine_tune : model file to start from, in place of the one that `path` names.

    Raises
    ------
    SettingsError : a key or value that is not understood or contradicts the model to start from, with its line or name.
    ModelError, OSError : a model to start from that cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() == ".toml":
        return _assemble(_read_toml(path), _labels(str(path)), path.parent, fine_tune)
    state = _read_nep_in(path)
    tables = {"model": state.model, "training": state.training, "loss": state.loss}
    if "elements" not in state.model and not (fine_tune or state.training.get("fine_tune")):
        raise SettingsError(f"{path}: no `type` line")
    settings = _assemble(tables, dict.fromkeys(("", *TABLES), str(path)), path.parent, fine_tune)
    return dataclasses.replace(settings, notes=tuple(state.notes))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as failure:
        raise SettingsError(f"{path}: not TOML: {failure}") from failure


def settings_of_tables(tables: Mapping[str, Any], where: str) -> Settings:
    """Return the settings of the tables [model], [training], [loss]; raises SettingsError for anything else."""
    return _assemble(tables, _labels(where))


def _labels(where: str) -> dict[str, str]:
    """Return what the tables of a TOML file are called in messages."""
    return {"": where, **{name: f"{where}, [{name}]" for name in TABLES}}


def _assemble(
    tables: Mapping[str, Any],
    labels: Mapping[str, str],
    folder: Path | None = None,
    fine_tune: str = "",
) -> Settings:
    """Return the settings of the tables, with paths relative to a folder; `fine_tune` replaces that of the table."""
    unknown = sorted(set(tables) - set(TABLES))
    if unknown:
        raise SettingsError(
            f"{labels['']}: unknown table [{unknown[0]}]; there are [model], [training], [loss]"
        )
    training: TrainingSettings = build_from_table(
        TrainingSettings, tables.get("training", {}), labels["training"]
    )
    training = training if folder is None else _located(training, folder)
    training = dataclasses.replace(training, fine_tune=fine_tune or training.fine_tune)
    model = _model_settings(tables.get("model", {}), training.fine_tune, labels["model"])
    loss = build_from_table(LossWeights, tables.get("loss", {}), labels["loss"])
    try:
        return Settings(model, training, loss)
    except SettingsError as failure:
        raise SettingsError(f"{labels['']}: {failure}") from failure


def _located(training: TrainingSettings, folder: Path) -> TrainingSettings:
    """Return the settings with paths that are relative to a folder."""
    located: dict[str, Any] = {
        name: tuple(str(folder / item) for item in getattr(training, name))
        for name in ("data", "validation", "test", "replay")
    }
    located["fine_tune"] = str(folder / training.fine_tune) if training.fine_tune else ""
    located["output"] = str(folder / training.output)
    return dataclasses.replace(training, **located)


def _model_settings(table: Mapping[str, Any], fine_tune: str, where: str) -> ModelSettings:
    """Return the settings of a table, or those of the model to start from, which the table may repeat."""
    if not fine_tune:
        return build_from_table(ModelSettings, table, where)
    from qnep.model import Model

    start = settings_of_model(Model.read(fine_tune))
    _require_table(table, where)
    given = build_from_table(ModelSettings, {"elements": start.elements, **table}, where)
    # A flexible ZBL that was once made from data has no outer radius of its own in the file.
    is_flexible = bool(start.zbl_pairs) and (given.zbl_from_data or bool(given.zbl_pairs))
    free = ("zbl", "zbl_typewise_factor", "zbl_from_data") if is_flexible else ()
    for key in table:
        if key not in free and not _is_same(key, given, start):
            raise SettingsError(
                f"{where}: {key} must be that of {fine_tune}, {getattr(start, key)!r}, "
                f"got {getattr(given, key)!r}; leave it out, or start from another model"
            )
    return start


def _is_same(key: str, first: ModelSettings, second: ModelSettings) -> bool:
    """Whether two settings mean the same, however they are written."""
    if key == "elements":
        return first.elements == second.elements
    ours, theirs = _plain_numbers(key, first), _plain_numbers(key, second)
    return ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=1e-6, atol=0.0)


def _plain_numbers(key: str, settings: ModelSettings) -> np.ndarray:
    """Return a value as numbers, with all flags and with the cutoffs of every type."""
    numbers = np.atleast_1d(getattr(settings, key)).astype(float)
    if key == "l_max":
        numbers = np.append(numbers[:1], numbers[1:] > 0)
        return np.pad(numbers, (0, 1 + N_FLAGS - len(numbers)))
    if key == "cutoff" and len(numbers) == 2:
        return np.tile(numbers, len(settings.elements))
    return numbers


def build_from_table(kind: type, table: Mapping[str, Any], where: str) -> Any:
    """Return a dataclass with the values of a table; raises SettingsError naming the key that does not fit."""
    _require_table(table, where)
    known = {item.name: item for item in dataclasses.fields(kind)}
    values = {}
    for key, value in table.items():
        if key not in known:
            raise SettingsError(f"{where}: unknown key {key!r}; there are {', '.join(known)}")
        if isinstance(value, str) and key in ("data", "validation", "test", "replay"):
            value = (value,)
        value = tuple(value) if isinstance(value, list) else value
        _check_type(value, str(known[key].type), f"{where}: {key}")
        values[key] = value
    for name, item in known.items():
        is_required = item.default is item.default_factory is dataclasses.MISSING
        if is_required and name not in values:
            raise SettingsError(f"{where}: the key {name!r} is missing")
    try:
        return kind(**values)
    except (TypeError, SettingsError) as failure:
        raise SettingsError(f"{where}: {failure}") from failure


def _require_table(table: Any, where: str) -> None:
    if not isinstance(table, Mapping):
        raise SettingsError(f"{where} must be a table, got {table!r}")


_ACCEPTED: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
}


def _check_type(value: Any, wanted: str, where: str) -> None:
    """Raise SettingsError unless a value is of a type, by its annotation; of other tuples only that they are one."""
    items = re.fullmatch(r"tuple\[(int|float|bool|str), (?:\.\.\.|\1)\]", wanted)
    if items is None:
        is_right, words = _is_of(value, _ACCEPTED.get(wanted, (tuple,))), wanted
    else:
        types, words = _ACCEPTED[items[1]], f"a list of {items[1]}"
        is_right = isinstance(value, tuple) and all(_is_of(item, types) for item in value)
    if not is_right:
        shown = list(value) if isinstance(value, tuple) else value
        raise SettingsError(f"{where} must be {words}, got {shown!r}")


def _is_of(value: Any, types: tuple[type, ...]) -> bool:
    """As isinstance, but a truth value is no number."""
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)


@dataclass
class _NepIn:
    """What has been read of a nep.in so far."""

    model: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _set_cutoff(state: _NepIn, words: list[str]) -> None:
    state.model["cutoff"] = tuple(map(float, words))


def _set_type(state: _NepIn, words: list[str]) -> None:
    if int(words[0]) != len(words) - 1:
        raise ValueError(f"{words[0]} types announced, {len(words) - 1} given")
    state.model["elements"] = tuple(words[1:])


def _set_fine_tune(state: _NepIn, words: list[str]) -> None:
    name = _first_word(words, "restart file", "flag")
    if words[2:] == ["0"]:
        raise ValueError("the coefficients of the descriptors cannot be frozen here, only flag 1")
    state.training["fine_tune"] = name
    if len(words) > 1:
        state.notes.append(f"{words[1]} is not read: it belongs to the evolution strategy")


def _set_neurons(state: _NepIn, words: list[str]) -> None:
    state.model["neurons"] = int(_first_word(words, "second layer"))
    if words[1:] not in ([], ["0"]):
        raise ValueError("only one hidden layer can be trained here")


def _set_charge_mode(state: _NepIn, words: list[str]) -> None:
    state.model["charge_mode"] = int(_first_word(words, "flip"))
    if words[1:] not in ([], ["0"]):
        raise ValueError("the flip is for a nep.restart, which is not read here")


def _set_typewise(state: _NepIn, words: list[str]) -> None:
    state.model["zbl_typewise_factor"] = float(_first_word(words or ["0.7"]))


def _first_word(words: list[str], *optional: str) -> str:
    """Return the first word; raises ValueError for none, or for more than it and the optional ones."""
    n_allowed = 1 + len(optional)
    if not 1 <= len(words) <= n_allowed:
        wanted = "1 value" if n_allowed == 1 else f"1 to {n_allowed} values"
        raise ValueError(f"wanted {wanted}, got {len(words)}")
    return words[0]


def _only(allowed: str, sentence: str) -> Callable[[_NepIn, list[str]], None]:
    """Return the reader of a keyword with one value that is possible here."""

    def check(state: _NepIn, words: list[str]) -> None:
        if _first_word(words) != allowed:
            raise ValueError(sentence)

    return check


def _model(name: str, convert: Callable[[list[str]], Any]) -> Callable[[_NepIn, list[str]], None]:
    return lambda state, words: state.model.__setitem__(name, convert(words))


def _weight(name: str) -> Callable[[_NepIn, list[str]], None]:
    return lambda state, words: state.loss.__setitem__(name, float(_first_word(words)))


def _training(name: str, convert: Callable[[str], Any]) -> Callable[[_NepIn, list[str]], None]:
    return lambda state, words: state.training.__setitem__(name, convert(_first_word(words)))


def _integers(words: list[str]) -> tuple[int, ...]:
    return tuple(map(int, words))


_NEP_IN: dict[str, Callable[[_NepIn, list[str]], None]] = {
    "type": _set_type,
    "version": _only("4", "only version 4 can be trained"),
    "model_type": _only("0", "only potentials (0) can be trained here"),
    "mode": _only("0", "only potentials (0) can be trained here"),
    "prediction": _only("0", "for predictions use `qnep eval nep.txt structures.xyz`"),
    "vdw": _only("0", "dispersion cannot be trained here"),
    "charge_vdw": _only("0", "dispersion cannot be trained here"),
    "atomic_v": _only("0", "atomic tensors cannot be trained here"),
    "cutoff": _set_cutoff,
    "n_max": _model("n_max", _integers),
    "basis_size": _model("basis_size", _integers),
    "l_max": _model("l_max", _integers),
    "neuron": _set_neurons,
    "charge_mode": _set_charge_mode,
    "zbl": _model("zbl", lambda words: float(_first_word(words))),
    "use_typewise_cutoff_zbl": _set_typewise,
    "lambda_e": _weight("energy"),
    "lambda_f": _weight("force"),
    "lambda_v": _weight("virial"),
    "lambda_q": _weight("charge"),
    "lambda_z": _weight("born"),
    "lambda_shear": _weight("shear"),
    "force_delta": _weight("force_delta"),
    "type_weight": lambda state, words: state.loss.__setitem__(
        "elements", tuple(map(float, words))
    ),
    "fine_tune": _set_fine_tune,
    "energy_shift": _training("energy_shift", lambda word: bool(int(word))),
    "weight_decay": _training("weight_decay", float),
}
_IGNORED = {
    "generation": "epochs count here, see --epochs",
    "population": "belongs to the evolution strategy",
    "sigma0": "belongs to the evolution strategy",
    "initial_para": "the start is scaled to the data",
    "lambda_1": "weight decay and early stopping regularise here",
    "lambda_2": "weight decay and early stopping regularise here",
    "batch": "gradients want small batches, see --batch-size",
    "save_potential": "every epoch is saved",
    "output_interval": "every epoch is reported",
    "output_descriptor": "see `qnep eval`",
    "import_q_scaler": "fine-tuning keeps the scaling factors",
    "start_lr": "see --learning-rate",
    "stop_lr": "see the key final_learning_rate",
    "lr_cos_restart": "the learning rate falls once, along half a cosine",
    "epoch": "see --epochs",
}


def _read_nep_in(path: Path) -> _NepIn:
    state = _NepIn()
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        keyword, values = words[0].lower(), words[1:]
        if keyword in _IGNORED:
            state.notes.append(f"{keyword} is ignored: {_IGNORED[keyword]}")
        elif keyword not in _NEP_IN:
            raise SettingsError(f"{path}, line {number}: unknown keyword {keyword!r}")
        else:
            try:
                _NEP_IN[keyword](state, values)
            except (ValueError, IndexError) as failure:
                raise SettingsError(
                    f"{path}, line {number}: {line.strip()!r}: {failure}"
                ) from failure
    if "zbl" in state.model and (path.parent / "zbl.in").exists():
        numbers = (path.parent / "zbl.in").read_text().split()
        state.model["zbl_pairs"] = tuple(map(float, numbers))
    if (path.parent / "test.xyz").exists():
        state.training["test"] = ("test.xyz",)
    return state
