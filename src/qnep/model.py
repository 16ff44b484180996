"""Models in memory: reading and writing (`Model`), a description for people, random ones for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qnep._core import Model, ModelError

__all__ = ["Model", "ModelError", "describe", "random_model"]

INVARIANTS = ("222", "1111", "112", "123", "233", "134")
"""The many-body invariants that the flags of the ``l_max`` line switch on, in the order of the file."""

TYPICAL_DENSITY = 0.05  # atoms/Å³, between a molecular liquid and a metal
MEAN_BASIS = (
    0.2  # of the radial functions over the cutoff sphere; the cutoff function's own mean is 0.196
)


def describe(model: Model) -> list[tuple[str, str]]:
    """Return what a model is as pairs of a name and a value with its unit, in the order in which people ask."""
    pairs = [
        ("model", model.token),
        ("kind", _kind(model)),
        ("elements", " ".join(model.elements)),
        ("radial cutoff", _cutoffs(model.elements, model.radial_cutoffs)),
        ("angular cutoff", _cutoffs(model.elements, model.angular_cutoffs)),
        (
            "radial functions",
            f"{model.n_max_radial + 1} from a basis of {model.basis_size_radial + 1}",
        ),
        (
            "angular functions",
            f"{model.n_max_angular + 1} from a basis of {model.basis_size_angular + 1}",
        ),
        ("angular order", _angular_order(model)),
        ("short range", _short_range(model)),
        ("descriptors", str(model.n_descriptors)),
        ("neurons", str(model.n_neurons)),
        (
            "parameters",
            f"{model.n_parameters:,} ({model.n_parameters * 8 / 2**20:.2f} MiB in double precision)",
        ),
    ]
    memory = memory_per_atom(model)
    pairs.append(
        (
            "memory",
            f"about {memory / 1000:.0f} kB an atom through ASE, at 0.1 atoms/Å³ and a skin of 1 Å",
        )
    )
    if model.charge_mode > 0:
        alpha = np.pi / max(model.radial_cutoffs)
        pairs.insert(6, ("Ewald parameter", f"{alpha:.6f} 1/Å"))
    return pairs


def memory_per_atom(model: Model, density: float = 0.1, skin: float = 1.0) -> float:
    """Estimate the peak memory of an evaluation through ASE, in bytes an atom of a large system.

    Parameters
    ----------
    density : 1/Å³, atoms per volume.
    skin : Å, as of `QNEP`.
    """
    # Measured on 50,000 and 150,000 atoms: while pairs are searched each is held by the search (int64 indices, shift
    # and distance), by the calculator and by the engine; then the engine keeps the angular sums of models with charges.
    reach = max(*model.radial_cutoffs, *model.angular_cutoffs) + skin
    pairs = 4.0 / 3.0 * np.pi * reach**3 * density
    sums = ((model.l_max + 1) ** 2 - 1) * (model.n_max_angular + 1) + 2 * model.n_descriptors
    return float(70.0 * pairs + 300.0 + (8.0 * sums if model.charge_mode > 0 else 0.0))


def _kind(model: Model) -> str:
    charges = {
        0: "",
        1: " with charges, full Coulomb energy (mode 1)",
        2: " with charges, reciprocal part only (mode 2)",
    }
    temperature = " of the free energy at a temperature" if model.has_temperature else ""
    return f"{model.kind}{charges[model.charge_mode]}{temperature}, NEP{model.version}"


def _cutoffs(elements: Sequence[str], cutoffs: Sequence[float]) -> str:
    if len(set(cutoffs)) == 1:
        return f"{cutoffs[0]:g} Å"
    return ", ".join(f"{symbol} {cutoff:g}" for symbol, cutoff in zip(elements, cutoffs)) + " Å"


def _angular_order(model: Model) -> str:
    extra = [name for name, is_on in zip(INVARIANTS, model.invariants) if is_on]
    return f"l up to {model.l_max}" + (f", invariants {' '.join(extra)}" if extra else "")


def _short_range(model: Model) -> str:
    if model.zbl == "none":
        return "no ZBL"
    if model.zbl == "flexible":
        return "ZBL, fitted for each pair"
    text = f"ZBL, switched off from {model.zbl_inner_cutoff:g} to {model.zbl_outer_cutoff:g} Å"
    return text + (
        f", type-wise factor {model.zbl_typewise_factor:g}" if model.zbl == "typewise" else ""
    )


@dataclass(frozen=True)
class _Shape:
    """Settings of a random model, as in the header of a file."""

    elements: tuple[str, ...]
    kind: str
    version: int
    charge_mode: int
    has_temperature: bool
    zbl: tuple[float, ...] | None
    radial_cutoffs: tuple[float, ...]
    angular_cutoffs: tuple[float, ...]
    n_max: tuple[int, int]
    basis_size: tuple[int, int]
    l_max: tuple[int, ...]
    n_neurons: int

    @property
    def n_types(self) -> int:
        return len(self.elements)

    @property
    def token(self) -> str:
        token = f"nep{self.version}" + ("_zbl" if self.zbl else "")
        if self.kind != "potential":
            token += f"_{self.kind}"
        if self.charge_mode:
            token += f"_charge{self.charge_mode}"
        return token + ("_temperature" if self.has_temperature else "")

    def header(self) -> list[str]:
        """The lines of the file up to the numbers."""
        lines = [f"{self.token} {self.n_types} {' '.join(self.elements)}"]
        if self.zbl:
            lines.append("zbl " + " ".join(f"{value:g}" for value in self.zbl))
        pairs = list(zip(self.radial_cutoffs, self.angular_cutoffs))
        if len(set(pairs)) == 1:
            pairs = pairs[:1]
        cutoffs = " ".join(f"{radial:g} {angular:g}" for radial, angular in pairs)
        return [
            *lines,
            f"cutoff {cutoffs} 500 200",
            f"n_max {self.n_max[0]} {self.n_max[1]}",
            f"basis_size {self.basis_size[0]} {self.basis_size[1]}",
            "l_max " + " ".join(map(str, self.l_max)),
            f"ANN {self.n_neurons} 0",
        ]

    def scalers(self) -> np.ndarray:  # [n_descriptors]
        """Factors that bring the descriptors of matter at a typical density to the order of one."""
        n_neighbors = [
            TYPICAL_DENSITY * 4.0 / 3.0 * np.pi * max(cutoffs) ** 3
            for cutoffs in (self.radial_cutoffs, self.angular_cutoffs)
        ]
        n_radial, n_angular = self.n_max[0] + 1, self.n_max[1] + 1
        radial = np.full(n_radial, 1.0 / (MEAN_BASIS * n_neighbors[0]))
        density = MEAN_BASIS * np.sqrt(
            n_neighbors[1] / (4.0 * np.pi)
        )  # of a random set of neighbours
        three_body = [1.0 / ((2 * l + 1) * density**2) for l in range(1, self.l_max[0] + 1)]
        orders = {"1111": 4}
        flags = [name for name, flag in zip(INVARIANTS, self.l_max[1:]) if flag]
        many_body = [0.5 / (density ** orders.get(name, 3)) for name in flags]
        angular = np.repeat(three_body + many_body, n_angular)
        return np.concatenate([radial, angular, [0.001] if self.has_temperature else []])


def random_model(
    elements: Sequence[str] | str,
    *,
    kind: str = "potential",
    version: int = 4,
    charge_mode: int = 0,
    has_temperature: bool = False,
    zbl: Sequence[float] | None = None,
    radial_cutoff: float | Sequence[float] = 6.0,
    angular_cutoff: float | Sequence[float] = 4.0,
    n_max: tuple[int, int] = (4, 4),
    basis_size: tuple[int, int] = (8, 8),
    l_max: Sequence[int] = (4, 1, 0),
    n_neurons: int = 20,
    energy_scale: float = 1.0,
    charge_scale: float = 0.5,
    seed: int = 0,
) -> Model:
    """Return a model with random parameters whose results are of ordinary size: for tests and benchmarks.

    Parameters
    ----------
    elements : symbols, as a list or in one string.
    kind, version, charge_mode, has_temperature : as the attributes of `Model`.
    zbl : None for no ZBL; (inner, outer) radii in Å; (inner, outer, factor) for the type-wise form; (0, 0) for the
        flexible form.
    radial_cutoff, angular_cutoff : Å, one number or one for each element.
    n_max, basis_size, l_max, n_neurons : as on the lines of a model file; `l_max` with its flags.
    energy_scale : eV, standard deviation of the energies of atoms, roughly.
    charge_scale : e, the same of the charges.
    seed : of all random numbers.

    Raises
    ------
    ModelError : settings that no model can have.
    """
    elements = tuple(elements.split() if isinstance(elements, str) else elements)
    shape = _Shape(
        elements,
        kind,
        version,
        charge_mode,
        has_temperature,
        None if zbl is None else tuple(zbl),
        tuple(np.broadcast_to(radial_cutoff, len(elements)).tolist()),
        tuple(np.broadcast_to(angular_cutoff, len(elements)).tolist()),
        (n_max[0], n_max[1]),
        (basis_size[0], basis_size[1]),
        tuple(l_max),
        n_neurons,
    )
    numbers = _random_parameters(shape, energy_scale, charge_scale, np.random.default_rng(seed))
    text = "\n".join([*shape.header(), *(f"{number:.17g}" for number in numbers)]) + "\n"
    return Model.parse(text, "random model")


def _random_parameters(
    shape: _Shape, energy_scale: float, charge_scale: float, random: np.random.Generator
) -> np.ndarray:
    """All numbers after the header in the order of the file."""
    scalers = shape.scalers()
    networks = [_random_networks(shape, len(scalers), energy_scale, charge_scale, random)]
    if shape.kind == "polarizability":
        networks.append(_random_networks(shape, len(scalers), energy_scale, charge_scale, random))
    coefficients = [
        random.normal(size=(n + 1, k + 1, shape.n_types, shape.n_types)).ravel() / np.sqrt(k + 1.0)
        for n, k in zip(shape.n_max, shape.basis_size)
    ]
    parts = [*networks, *coefficients, scalers]
    if shape.zbl is not None and not any(shape.zbl):
        parts.append(_flexible_zbl(shape, random))
    return np.concatenate(parts)


def _random_networks(
    shape: _Shape,
    n_descriptors: int,
    energy_scale: float,
    charge_scale: float,
    random: np.random.Generator,
) -> np.ndarray:
    """One set of networks with sqrt(epsilon_inf) and the common bias."""
    parts = []
    for _ in range(1 if shape.version == 3 else shape.n_types):
        parts.append(
            random.normal(size=shape.n_neurons * n_descriptors) * 2.0 / np.sqrt(n_descriptors)
        )
        parts.append(random.normal(size=shape.n_neurons) * 0.5)
        parts.append(random.normal(size=shape.n_neurons) * energy_scale / np.sqrt(shape.n_neurons))
        if shape.charge_mode:
            parts.append(
                random.normal(size=shape.n_neurons) * charge_scale / np.sqrt(shape.n_neurons)
            )
        if shape.version == 5:
            parts.append(random.normal(size=1) * energy_scale)
    if shape.charge_mode:
        parts.append(random.uniform(1.0, 2.0, size=1))
    parts.append(random.normal(size=1) * energy_scale)
    return np.concatenate(parts)


def _flexible_zbl(shape: _Shape, random: np.random.Generator) -> np.ndarray:
    """Ten numbers for each unordered pair of types: inner and outer radius, four times amplitude and decay."""
    n_pairs = shape.n_types * (shape.n_types + 1) // 2
    universal = [0.6, 1.8, 0.18175, 3.1998, 0.50986, 0.94229, 0.28022, 0.4029, 0.02817, 0.20162]
    return (np.array(universal) * random.uniform(0.9, 1.1, size=(n_pairs, 10))).ravel()
