"""Settings of a reference calculation: the words that all backends share, and presets."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from numbers import Integral, Real
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DISPERSIONS = ("none", "d3bj", "d3zero")
ENERGIES = ("free", "extrapolated")
MOST_ITERATIONS = {"maxiter", "max_iterations", "max_scf", "electron_maxstep", "nelm"}
"""Options of the codes that limit the self-consistent iterations."""
PULAY_CUTOFF = "cutoff_eV"  # beside the elements in `Settings.pulay`


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_count(value: Any, smallest: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= smallest


def _is_grid(value: Any) -> bool:
    is_list = isinstance(value, (tuple, list))
    return is_list and len(value) == 3 and all(_is_count(count, 1) for count in value)


def _is_table_of_slopes(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        _is_number(slope) and math.isfinite(slope) for slope in value.values()
    )


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(isinstance(item, Mapping) for item in value)


_WANTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "level": (lambda value: isinstance(value, str), "a text"),
    "xc": (lambda value: isinstance(value, str), "a text"),
    "cutoff_eV": (
        lambda value: value is None or (_is_number(value) and 0 < value < math.inf),
        "a positive number, eV",
    ),
    "dispersion": (lambda value: value in DISPERSIONS, f"one of {', '.join(DISPERSIONS)}"),
    "smearing_eV": (
        lambda value: _is_number(value) and 0 <= value < math.inf,
        "a number that is not negative, eV",
    ),
    "kpoint_spacing": (
        lambda value: _is_number(value) and value > 0,
        "a positive number, 2π/Å (inf for Gamma only)",
    ),
    "kpts": (
        lambda value: value is None or _is_grid(value),
        "three whole numbers of at least 1, as [2, 2, 1]",
    ),
    "total_charge": (
        lambda value: _is_number(value) and math.isfinite(value),
        "a finite number, e",
    ),
    "n_unpaired": (
        lambda value: value is None or _is_count(value, 0),
        "a whole number that is not negative",
    ),
    "energy": (lambda value: value in ENERGIES, f"one of {', '.join(ENERGIES)}"),
    "pulay": (_is_table_of_slopes, "a table of numbers, as {cutoff_eV=650, O=-0.007}"),
    "options": (lambda value: isinstance(value, Mapping), "a table, as {maxiter=300}"),
    "retries": (_is_list_of_tables, "a list of tables, as [{maxiter=300}]"),
}
"""Setting -> whether a value can be one, and the words for what was wanted."""
SETTINGS = tuple(_WANTED)
"""Names of all settings."""


@dataclass(frozen=True)
class Settings:
    """What is calculated, in the same words for every code.

    Parameters
    ----------
    level : short name of the level of theory, written next to every label.
    xc : functional.
    cutoff_eV : kinetic-energy cutoff of the plane waves; None where the code has none.
    dispersion : "none", "d3bj" or "d3zero"; added by dftd3 where the code lacks it.
    smearing_eV : width of the occupations.
    kpoint_spacing : largest distance of k-points, 2π/Å; infinite for Gamma only. Along directions that are not
        periodic there is one point. Unused where kpts is given.
    kpts : grid, as (2, 2, 1).
    total_charge : e.
    n_unpaired : unpaired electrons, kept in the calculation; None for one without spin.
    energy : "free" is the energy whose gradient the forces are; "extrapolated" that without electronic entropy.
    pulay : dE/dE_cut per atom by element, eV/eV, of the basis-set term that is added to the stress, and as
        ``cutoff_eV`` the cutoff at which these slopes were fitted; without, they are for the one in use. At any other
        cutoff labels have no stress. Empty: the stress is left as the code gives it.
    options : passed to the calculator of the code as they are.
    retries : changes of `options` for the second, third, ... attempt at a label that failed. They steer the
        convergence only, so labels stay comparable.

    Raises
    ------
    ValueError : a value of a wrong type or out of range.
    """

    level: str
    xc: str = "PBE"
    cutoff_eV: float | None = None
    dispersion: str = "none"
    smearing_eV: float = 0.05
    kpoint_spacing: float = math.inf
    kpts: tuple[int, int, int] | None = None
    total_charge: float = 0.0
    n_unpaired: int | None = None
    energy: str = "free"
    pulay: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    retries: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for name in _WANTED:
            _check_setting(name, getattr(self, name))
        for name in MOST_ITERATIONS & self.options.keys():
            if not _is_count(self.options[name], 0):  # compared with those of `retries`
                raise ValueError(
                    f"{name} in options must be a whole number, got {self.options[name]!r}"
                )
        if self.kpts is not None:
            object.__setattr__(self, "kpts", tuple(int(count) for count in self.kpts))
        object.__setattr__(self, "retries", tuple(self.retries))

    def replace(self, **changes: Any) -> Settings:
        """Return settings with some fields changed; `options` are merged, not replaced.

        Raises
        ------
        ValueError : a word that is no setting, or a value that it cannot have.
        """
        unknown = sorted(set(changes) - set(SETTINGS))
        if unknown:
            raise ValueError(
                f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(SETTINGS))} "
                "(settings of the code itself go into options)"
            )
        if "options" in changes:
            _check_setting("options", changes["options"])
            changes["options"] = {**self.options, **changes["options"]}
        return dataclasses.replace(self, **changes)

    @property
    def pulay_slopes(self) -> dict[str, float]:
        """The slopes of `pulay` by element."""
        return {name: slope for name, slope in self.pulay.items() if name != PULAY_CUTOFF}

    @property
    def why_no_stress(self) -> str:
        """A sentence where labels carry no stress, whatever the code gives; else empty."""
        fitted_at = self.pulay.get(PULAY_CUTOFF, self.cutoff_eV)
        if self.cutoff_eV is None or fitted_at == self.cutoff_eV:
            return ""
        return (
            f"no stress: the slopes of its basis-set correction hold at {fitted_at:g} eV, the cutoff is "
            f"{self.cutoff_eV:g} eV; for a stress set pulay to slopes for this cutoff, or to {{}} where it is high "
            "enough to need none"
        )

    def for_attempt(self, attempt: int) -> Settings:
        """Return the settings of an attempt: 0 is the first, later ones add `retries`, but no fewer iterations."""
        if attempt == 0 or not self.retries:
            return self
        changes = dict(self.retries[min(attempt, len(self.retries)) - 1])
        for name in MOST_ITERATIONS & changes.keys() & self.options.keys():
            changes[name] = max(changes[name], self.options[name])
        return self.replace(options=changes)

    def as_dict(self) -> dict[str, Any]:
        """Return plain types, as JSON can hold them."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=dict))

    def digest(self) -> str:
        """Return eight characters that change with everything that changes the result."""
        physical = self.as_dict()
        for name in ("retries", "kpts", "kpoint_spacing", "total_charge", "n_unpaired"):
            del physical[name]
        # It decides whether there is a stress, not what energies and forces are: labels of before stay known.
        physical["pulay"].pop(PULAY_CUTOFF, None)
        return hashlib.sha256(json.dumps(physical, sort_keys=True).encode()).hexdigest()[:8]


def load_preset(name: str) -> Settings:
    """Return the settings that the package recommends for a backend.

    Raises
    ------
    ValueError : no preset of that name.
    """
    folder = resources.files("qnep.dft") / "presets"
    file = folder / f"{name}.toml"
    if not file.is_file():
        names = sorted(
            entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")
        )
        raise ValueError(f"no preset {name!r}; there are {', '.join(names)}")
    return Settings(**tomllib.loads(file.read_text()))


def parse_value(text: str) -> Any:
    """Return a value written as in a preset, as ``250``, ``[0.02, 8]`` or ``{maxiter = 5}``; other text as it is."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _check_setting(name: str, value: Any) -> None:
    """Raise ValueError for a value that a setting cannot have."""
    can_be, words = _WANTED[name]
    if not can_be(value):
        raise ValueError(f"the setting {name} must be {words}, got {value!r}")
