"""Settings of a reference calculation: the words that all backends share, and presets."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
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
        _check_choice("dispersion", self.dispersion, DISPERSIONS)
        _check_choice("energy", self.energy, ENERGIES)
        if self.kpts is not None:
            object.__setattr__(self, "kpts", tuple(int(count) for count in self.kpts))
        object.__setattr__(self, "retries", tuple(self.retries))

    def replace(self, **changes: Any) -> Settings:
        """Return settings with some fields changed; `options` are merged, not replaced.

        Raises
        ------
        ValueError : a word that is no setting.
        """
        known = {entry.name for entry in dataclasses.fields(self)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise ValueError(
                f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))} "
                "(settings of the code itself go into options)"
            )
        if "options" in changes:
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


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
