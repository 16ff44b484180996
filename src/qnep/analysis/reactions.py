"""What the reactions of a trajectory add up to: channels, rates, network, broken bonds, gases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from qnep._optional import require
from qnep.analysis.molecules import Species
from qnep.analysis.species import SpeciesResult

PUBLISHED_GAS_PERCENT = {"EC": {"C₂H₄": 58.6}, "DME": {"C₂H₆": 42.0, "CH₄": 18.7}}
"""Gas chromatography of Na metal in EC and DME with NaPF6, percent of the gas (arXiv:2604.07077)."""

FS_PER_NS = 1e6


@dataclass(frozen=True)
class Channel:
    """All reactions of the same reactants to the same products.

    Parameters
    ----------
    reactants, products : indices of species, with repeats.
    equation : as text.
    times : fs (or frame numbers) of the events.
    rate : events per ns; nan where no times are known.
    rate_constant : per ns, for one reactant: events over the integral of its number; per ns and
        molecule per Å³ for two. nan for more reactants, or without times (or, for two, a box).
    """

    reactants: tuple[int, ...]
    products: tuple[int, ...]
    equation: str
    times: np.ndarray
    rate: float
    rate_constant: float

    @property
    def n_events(self) -> int:
        """Number of events; its Poisson error is the square root."""
        return len(self.times)


def equation(names: Sequence[str], reactants: Sequence[int], products: Sequence[int]) -> str:
    """Return "A + 2 B → C" of species indices."""
    return f"{_side(names, reactants)} → {_side(names, products)}"


def _side(names: Sequence[str], species: Sequence[int]) -> str:
    counts = Counter(names[k] for k in species)
    return " + ".join(f"{n} {name}" if n > 1 else name for name, n in counts.items())


def channels(result: SpeciesResult) -> list[Channel]:
    """Return the channels of all reactions, the most frequent first.

    A reaction whose products are its reactants (an exchange of equal atoms) is a channel too.
    """
    times: dict[tuple, list[float]] = {}
    for reaction in result.reactions:
        times.setdefault((reaction.reactants, reaction.products), []).append(reaction.time)
    names = result.display_names()
    found = [
        Channel(
            reactants,
            products,
            equation(names, reactants, products),
            np.array(events),
            *_rates(result, reactants, len(events)),
        )
        for (reactants, products), events in times.items()
    ]
    return sorted(found, key=lambda channel: (-channel.n_events, channel.times[0]))


def _rates(result: SpeciesResult, reactants: tuple[int, ...], n: int) -> tuple[float, float]:
    """Return events per ns and the rate constant of a channel."""
    if not result.has_times or len(result.times) < 2:
        return float("nan"), float("nan")
    times_ns = result.times / FS_PER_NS
    numbers = result.counts[:, list(reactants)].astype(float)
    exposure = float("nan")
    if len(reactants) == 1:
        exposure = np.trapezoid(numbers[:, 0], times_ns)
    elif len(reactants) == 2 and result.volume > 0:
        if reactants[0] == reactants[1]:
            numbers[:, 1] -= 1.0  # ordered pairs of different molecules
        exposure = np.trapezoid(numbers.prod(axis=1), times_ns) / result.volume
    rate_constant = n / exposure if exposure > 0 else float("nan")
    return n / float(times_ns[-1] - times_ns[0]), float(rate_constant)


def net_flows(result: SpeciesResult) -> dict[tuple[int, int], int]:
    """Return {(from, to): events} between species that hand over atoms, forth minus back, above 0."""
    forth: Counter[tuple[int, int]] = Counter()
    for reaction in result.reactions:
        for source, target in {(s, t) for s, t, _ in reaction.flows if s != t}:
            forth[source, target] += 1
    net = {(s, t): n - forth.get((t, s), 0) for (s, t), n in forth.items()}
    return {link: n for link, n in net.items() if n > 0}


def reaction_network(result: SpeciesResult) -> Any:
    """Return the network as a networkx.DiGraph of species and reactions.

    Nodes of ``kind`` "species" carry name, label, formula, role and charge; nodes of ``kind`` "reaction"
    carry equation, events, rate and rate constant. Edges lead from reactants to the reaction to products.
    """
    networkx = require("networkx", extra="analysis")
    graph = networkx.DiGraph()
    for k, (one, name) in enumerate(zip(result.species, result.display_names())):
        graph.add_node(
            f"s{k}",
            kind="species",
            name=name,
            label=one.label,
            formula=one.formula,
            role=one.role,
            first=int(result.counts[0, k]),
            last=int(result.counts[-1, k]),
            charge=float(result.charges[k]),
        )
    for k, channel in enumerate(channels(result)):
        graph.add_node(
            f"r{k}",
            kind="reaction",
            name=channel.equation,
            events=channel.n_events,
            rate_per_ns=channel.rate,
            rate_constant=channel.rate_constant,
        )
        for species, n in Counter(channel.reactants).items():
            graph.add_edge(f"s{species}", f"r{k}", number=n, events=channel.n_events)
        for species, n in Counter(channel.products).items():
            graph.add_edge(f"r{k}", f"s{species}", number=n, events=channel.n_events)
    return graph


@dataclass(frozen=True)
class BondCleavage:
    """How often one kind of bond of a molecule broke.

    Parameters
    ----------
    name : as "CH2–O (ring)".
    bonds : the equivalent bonds, as pairs of atoms of the species' graph.
    first : times it broke in an intact molecule of the species.
    total : times it broke at all, counted for the molecules of the first frame, also after others
        of their bonds broke.
    """

    name: str
    bonds: tuple[tuple[int, int], ...]
    first: int
    total: int


def cleavage_map(result: SpeciesResult, molecule: str) -> list[BondCleavage]:
    """Return for every kind of bond of a molecule how often it broke, the most frequent first.

    Parameters
    ----------
    molecule : name, label or formula of a species.

    Raises
    ------
    ValueError : where the trajectory has no such species.
    """
    try:
        index = result.index(molecule)
    except KeyError:
        names = ", ".join(sorted(set(result.display_names())))
        raise ValueError(f"no species {molecule!r} in this trajectory; there are {names}") from None
    first = Counter(b.parent_colors for b in result.broken_bonds if b.parent == index)
    total = Counter(b.origin_colors for b in result.broken_bonds if b.origin == index)
    species = result.species[index]
    kinds: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for a, b in species.graph.bonds.tolist():
        low, high = sorted((int(species.colors[a]), int(species.colors[b])))
        kinds.setdefault((low, high), []).append((a, b))
    found = [
        BondCleavage(bond_name(species, bonds[0]), tuple(bonds), first[kind], total[kind])
        for kind, bonds in kinds.items()
    ]
    return sorted(found, key=lambda bond: (-bond.first, -bond.total, bond.name))


def bond_name(species: Species, bond: tuple[int, int]) -> str:
    """Return what to call a bond: its atoms with their hydrogens, and whether it is in a ring."""
    graph = species.graph
    is_in_ring = graph.to_rdkit()
    require("rdkit.Chem", extra="analysis").FastFindRings(is_in_ring)
    in_ring = is_in_ring.GetBondBetweenAtoms(*bond).IsInRing()
    groups = sorted(_group(species, atom) for atom in bond)
    degree = np.bincount(graph.bonds.ravel(), minlength=len(graph.numbers))
    ends = [a for a in bond if degree[a] == 1 and graph.numbers[a] > 1]
    note = " (ring)" if in_ring else " (terminal)" if ends else ""
    return "–".join(groups) + note


def _group(species: Species, atom: int) -> str:
    """Return an atom with the hydrogens on it, as CH2."""
    graph = species.graph
    symbol = chemical_symbols[graph.numbers[atom]]
    if symbol == "H":
        return symbol
    partners = graph.bonds[(graph.bonds == atom).any(axis=1)]
    n_hydrogens = int((graph.numbers[partners] == 1).sum())
    return symbol + ("" if n_hydrogens == 0 else "H" if n_hydrogens == 1 else f"H{n_hydrogens}")


def solvents(result: SpeciesResult) -> list[str]:
    """Return the solvents and salts of the first frame that have bonds, by name."""
    return [
        one.name
        for k, one in enumerate(result.species)
        if result.counts[0, k] > 0 and one.role in ("solvent", "anion") and len(one.graph.bonds)
    ]


@dataclass(frozen=True)
class GasShare:
    """A gas among the gases.

    Parameters
    ----------
    name : of the gas.
    count : molecules, mean over the last tenth of the frames.
    percent : of all gas molecules; nan without gas.
    published : percent by gas chromatography, if there is a figure for the solvent.
    """

    name: str
    count: float
    percent: float
    published: float | None


def gas_shares(result: SpeciesResult) -> list[GasShare]:
    """Return the gases formed and their fractions, beside the published ones for the solvent present.

    Molecules of the first frame do not count as formed.
    """
    n_last = max(1, len(result.times) // 10)
    counts = {
        one.name: float(result.counts[-n_last:, k].mean() - result.counts[0, k])
        for k, one in enumerate(result.species)
        if one.role == "gas"
    }
    counts = {name: n for name, n in counts.items() if n > 0}
    total = sum(counts.values())
    published: dict[str, float] = {}
    for solvent, values in PUBLISHED_GAS_PERCENT.items():
        if result.count(solvent)[0] > 0:
            published |= values
    names = sorted(set(counts) | set(published), key=lambda name: -counts.get(name, 0.0))
    return [
        GasShare(
            name,
            counts.get(name, 0.0),
            100 * counts.get(name, 0.0) / total if total > 0 else float("nan"),
            published.get(name),
        )
        for name in names
    ]
