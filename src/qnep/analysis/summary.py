"""Turn the results of each analysis into charts and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from qnep._optional import require
from qnep.analysis.crystals import CrystalHistory, Nucleus
from qnep.analysis.deposition import DepositionRow
from qnep.analysis.findings import Chart, Drawing, Findings, Flow, Series, Table
from qnep.analysis.layers import LayerResult
from qnep.analysis.reactions import (
    BondCleavage,
    channels,
    cleavage_map,
    gas_shares,
    net_flows,
    solvents,
)
from qnep.analysis.solvation import SolvationResult
from qnep.analysis.species import SpeciesResult

FS_PER_PS = 1000.0
MOST_CURVES = 12
MOST_ROWS = 500


def time_axis(times: np.ndarray, has_times: bool) -> tuple[list[float], str]:
    """Return times for a chart and their label: ps, or frame numbers."""
    if has_times:
        return (times / FS_PER_PS).round(6).tolist(), "time / ps"
    return times.tolist(), "frame"


def summarize_species(result: SpeciesResult) -> Findings:
    """Species against time, reactions, flows, broken bonds and gases."""
    findings = Findings()
    findings.charts += _species_charts(result)
    findings.tables += [_species_table(result), _channel_table(result), _event_table(result)]
    flow = _flow(result)
    findings.flows += [flow] if flow.links else []
    for name in solvents(result):
        bonds = cleavage_map(result, name)
        if any(bond.total for bond in bonds):
            findings.charts.append(_cleavage_chart(name, bonds))
            findings.drawings.append(_cleavage_drawing(result, name, bonds))
    gases = _gas_chart(result)
    findings.charts += [gases] if gases else []
    if result.delay and result.has_times:
        findings.notes.append(
            f"A bond counts as formed or broken if it stays so for {result.delay} more frame(s); "
            "changes in that many last frames do not count."
        )
    return findings


def _species_charts(result: SpeciesResult) -> list[Chart]:
    x, label = time_axis(result.times, result.has_times)
    names = result.display_names()
    change = np.ptp(result.counts, axis=0)
    start = result.counts[0]
    charts = []
    for name, title, chosen in (
        ("species", "Electrolyte, ions and metal", start > 0),
        ("products", "Products", start == 0),
    ):
        picked = np.flatnonzero(chosen & (result.counts.max(axis=0) > 0))
        picked = picked[np.argsort(-(change[picked] + 1e-3 * result.counts[-1, picked]))][
            :MOST_CURVES
        ]
        series = [Series(names[k], x, result.counts[:, k].tolist()) for k in picked]
        if series:
            caption = f"Molecules of the {len(series)} species that change most."
            charts.append(Chart(name, "Species", title, caption, label, "molecules", series))
    return charts


def _species_table(result: SpeciesResult) -> Table:
    rows: list[list[Any]] = [
        [
            one.name, one.formula, one.label, one.known.charge if one.known else "",
            _number(result.charges[k]), _number(result.charge_spreads[k]),
            int(result.counts[0, k]), int(result.counts[:, k].max()), int(result.counts[-1, k]),
        ]
        for k, one in enumerate(result.species)
    ]  # fmt: skip
    rows.sort(key=lambda row: (row[8], row[7]), reverse=True)
    header = [
        "species", "formula", "skeleton", "formal charge / e", "mean model charge / e", "spread / e",
        "first", "most", "last",
    ]  # fmt: skip
    caption = (
        "Skeletons are canonical SMILES without bond orders. Model charges are not formal charges."
    )
    return Table("species_table", "Species", "All species", caption, header, rows[:MOST_ROWS])


def _number(value: float) -> float | str:
    """Return six digits of a number; nothing for nan."""
    return float(f"{value:.6g}") if np.isfinite(value) else ""


def _channel_table(result: SpeciesResult) -> Table:
    found = channels(result)
    first, label = time_axis(np.array([one.times[0] for one in found]), result.has_times)
    rows = [
        [
            one.equation, one.n_events, round(float(np.sqrt(one.n_events)), 1), _number(one.rate),
            _number(one.rate_constant), time,
        ]
        for one, time in zip(found, first)
    ]  # fmt: skip
    header = [
        "reaction", "events", "Poisson error", "events per ns",
        "rate constant (1/ns; 1/ns per molecule/Å³)", f"first at {label}",
    ]  # fmt: skip
    caption = "Rate constants: events over the time integral of the reactants' numbers."
    return Table("reactions", "Reactions", "Reaction channels", caption, header, rows[:MOST_ROWS])


def _event_table(result: SpeciesResult) -> Table:
    names = result.display_names()

    def side(species: Sequence[int]) -> str:
        return " + ".join(names[k] for k in species)

    def bonds(pairs: Sequence[tuple[int, int]]) -> str:
        return " ".join(f"{a}-{b}" for a, b in pairs)

    rows = [
        [one.frame, *([round(one.time / FS_PER_PS, 6)] if result.has_times else []), side(one.reactants),
         side(one.products), " ".join(map(str, one.atoms)), bonds(one.formed), bonds(one.broken)]
        for one in result.reactions
    ]  # fmt: skip
    times = ["time / ps"] if result.has_times else []
    header = ["frame", *times, "reactants", "products", "first atoms", "formed", "broken"]
    caption = "Atoms and bonds by index from 0."
    return Table("events", "Reactions", "Events", caption, header, rows)


def _flow(result: SpeciesResult) -> Flow:
    names = result.display_names()
    links = sorted(net_flows(result).items(), key=lambda item: -item[1])[:40]
    used = sorted({node for link, _ in links for node in link})
    place = {node: k for k, node in enumerate(used)}
    return Flow(
        "flow", "Reactions", "Where atoms went",
        "Net events in which one species handed atoms to another; the 40 largest.",
        [names[k] for k in used], [(place[a], place[b], float(n)) for (a, b), n in links],
    )  # fmt: skip


def _cleavage_chart(name: str, bonds: Sequence[BondCleavage]) -> Chart:
    labels = [f"{bond.name} ×{len(bond.bonds)}" for bond in bonds]
    return Chart(
        f"cleavage_{file_name(name)}", "Bond cleavage", f"Which bond of {name} breaks",
        "First: in an intact molecule. All: bonds of the first frame's molecules, also after another one "
        "broke. ×n: equivalent bonds.",
        "bond", "times broken",
        [Series("first", labels, [bond.first for bond in bonds]),
         Series("all", labels, [bond.total for bond in bonds])],
        "bar",
    )  # fmt: skip


def _cleavage_drawing(result: SpeciesResult, name: str, bonds: Sequence[BondCleavage]) -> Drawing:
    """Draw the molecule with each bond coloured by how often it broke first."""
    chem = require("rdkit.Chem", extra="analysis")
    draw = require("rdkit.Chem.Draw.rdMolDraw2D", extra="analysis")
    graph = result.species[result.index(name)].graph
    molecule = graph.to_rdkit()
    chem.rdDepictor.Compute2DCoords(molecule)
    most = max(1, *(bond.total for bond in bonds))
    colors = {}
    for kind in bonds:
        for a, b in kind.bonds if kind.total else ():
            bond = molecule.GetBondBetweenAtoms(a, b)
            share = kind.total / most
            colors[bond.GetIdx()] = (1.0, 0.9 - 0.4 * share, 0.7 - 0.5 * share)
            bond.SetProp("bondNote", str(kind.total))
    canvas = draw.MolDraw2DSVG(360, 260)
    canvas.drawOptions().highlightBondWidthMultiplier = 12
    canvas.drawOptions().useBWAtomPalette()
    draw.PrepareAndDrawMolecule(
        canvas,
        molecule,
        highlightAtoms=[],
        highlightBonds=list(colors),
        highlightBondColors=colors,
        kekulize=False,
    )
    canvas.FinishDrawing()
    return Drawing(
        f"cleavage_map_{file_name(name)}", "Bond cleavage", f"Cleavage map of {name}",
        "Each bond with the number of times that it, or an equivalent one, broke.",
        canvas.GetDrawingText(),
    )  # fmt: skip


_PLAIN = str.maketrans("₀₁₂₃₄₅₆₇₈₉⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "01234567890123456789pm")


def file_name(name: str) -> str:
    """Return a name for a file: letters, digits and dashes."""
    plain = name.translate(_PLAIN)
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in plain).strip("-")


def _gas_chart(result: SpeciesResult) -> Chart | None:
    gases = gas_shares(result)
    if not any(gas.count for gas in gases):
        return None
    names = [gas.name for gas in gases]
    series = [Series("this run", names, [gas.percent for gas in gases])]
    known = [(gas.name, gas.published) for gas in gases if gas.published is not None]
    if known:
        x, y = zip(*known)
        series.append(Series("gas chromatography (arXiv:2604.07077)", list(x), list(y)))
    caption = "Percent of the gas molecules formed, mean over the last tenth of the frames."
    return Chart("gases", "Gases", "Gas products", caption, "gas", "percent", series, "bar")


def summarize_solvation(result: SolvationResult, has_times: bool) -> Findings:
    """g(r), coordination, ion pairs, residence."""
    x, label = time_axis(result.times, has_times)
    pairs = [f"{a}–{b}" for a, b in (one.pair for one in result.distributions)]
    curves = list(zip(pairs, result.distributions))
    fractions = np.array([one.fractions for one in result.shells])
    findings = Findings()
    findings.charts = [
        Chart(
            "rdf", "Solvation", f"Radial distribution around {result.cation}", "", "r / Å", "g(r)",
            [Series(name, one.r.tolist(), one.g.tolist()) for name, one in curves],
        ),
        Chart(
            "coordination", "Solvation", f"Running coordination of {result.cation}",
            "Neighbours within r.", "r / Å", "neighbours",
            [Series(name, one.edges[1:].tolist(), one.coordination.tolist()) for name, one in curves],
        ),
        Chart(
            "ion_pairs", "Solvation", "Ion pairs",
            "SSIP: no anion in contact. CIP: one, which touches no other cation. AGG: the rest. Atoms of a "
            "metal are no cations.", label, "fraction",
            [Series(name, x, fractions[:, k].tolist()) for k, name in enumerate(("SSIP", "CIP", "AGG"))],
        ),
    ]  # fmt: skip
    interval = x[1] - x[0] if len(x) > 1 else 1.0
    series = [
        Series(
            f"{result.cation}–{element}",
            (interval * np.arange(len(curve))).tolist(),
            curve.tolist(),
        )
        for element, curve in result.survival.items()
    ]
    findings.charts.append(
        Chart("survival", "Solvation", "Contacts that never broke", "", label, "fraction", series)
    )
    rows = [
        [f"{result.cation}–{element}", _number(time / (FS_PER_PS if has_times else 1.0))]
        for element, time in result.residence.items()
    ]
    unit = "ps" if has_times else "frames"
    caption = "1/e time of the fraction of contacts that never broke (with hysteresis). Blank: no decay seen."
    findings.tables.append(
        Table(
            "residence",
            "Solvation",
            "Residence times",
            caption,
            ["contact", f"time / {unit}"],
            rows,
        )
    )
    return findings


def summarize_layers(result: LayerResult, has_times: bool) -> Findings:
    """Profiles, thickness, roughness."""
    x, label = time_axis(result.times, has_times)
    profiles = result.profiles
    z = profiles.z.tolist()
    height = "height / Å"
    findings = Findings()
    findings.charts = [
        Chart(
            "density_profile", "Layers", "Density along the normal", "Mean over the last frames.",
            height, "g/cm³",
            [Series(m.name.lower(), z, y.tolist()) for m, y in profiles.density.items() if y.any()],
        ),
        Chart(
            "composition_profile", "Layers", "Composition along the normal",
            "Mean over the last frames.", height, "atoms / Å³",
            [Series(symbol, z, y.tolist()) for symbol, y in profiles.composition.items()],
        ),
        Chart(
            "thickness", "Layers", "Thickness of the layers",
            "Integral of each material's fraction of the density.", label, "Å",
            [Series(m.name.lower(), x, y.tolist()) for m, y in result.thickness.items() if y.any()],
        ),
    ]  # fmt: skip
    if profiles.charge is not None:
        series = [Series("charge", z, profiles.charge.tolist())]
        caption = "Mean over the last frames."
        findings.charts.append(
            Chart(
                "charge_profile",
                "Layers",
                "Charge along the normal",
                caption,
                height,
                "e / Å³",
                series,
            )
        )
    if np.isfinite(result.roughness).any():
        series = [Series("roughness", x, result.roughness.tolist())]
        caption = "Standard deviation of the height of solid product over columns 4 Å wide."
        findings.charts.append(
            Chart("roughness", "Layers", "Roughness of the interphase", caption, label, "Å", series)
        )
    findings.charts = [chart for chart in findings.charts if chart.series]
    return findings


def summarize_crystals(histories: dict[str, CrystalHistory], has_times: bool) -> Findings:
    """Crystalline fraction, size of nuclei, the nuclei of the last frame."""
    findings = Findings()
    found = {name: one for name, one in histories.items() if any(one.n_atoms)}
    if not found:
        return findings
    curves: dict[str, list[Series]] = {"fraction": [], "largest": []}
    rows = []
    for name, history in found.items():
        x, label = time_axis(np.array(history.times), has_times)
        curves["fraction"].append(Series(name, x, history.fraction))
        curves["largest"].append(Series(name, x, [float(size) for size in history.largest]))
        nuclei = history.last.nuclei if history.last else []
        rows += [[name, k, *_nucleus_row(one)] for k, one in enumerate(nuclei, 1)]
    caption = "Polyhedral template matching; of salts, the part of the free anions."
    findings.charts = [
        Chart("crystallinity", "Crystals", "Crystalline fraction", caption, label, "fraction",
              curves["fraction"]),
        Chart("largest_nucleus", "Crystals", "Largest crystal", "", label, "atoms", curves["largest"]),
    ]  # fmt: skip
    header = [
        "crystal", "number", "atoms", "x / Å", "y / Å", "z / Å", "height / Å", "base radius / Å",
        "contact angle / °", "sphericity", "first cube axis", "spread of orientation / °",
    ]  # fmt: skip
    findings.tables.append(
        Table("nuclei", "Crystals", "Crystals of the last frame", "", header, rows[:MOST_ROWS])
    )
    return findings


def _nucleus_row(nucleus: Nucleus) -> list[Any]:
    axis = " ".join(f"{a:.3f}" for a in nucleus.axes[0])
    numbers = (
        *nucleus.center,
        nucleus.height,
        nucleus.base_radius,
        nucleus.contact_angle,
        nucleus.sphericity,
    )
    return [
        nucleus.size,
        *(round(float(v), 2) for v in numbers),
        axis,
        round(nucleus.orientation_spread, 1),
    ]


def summarize_deposition(rows: Sequence[DepositionRow], cation: str, has_times: bool) -> Findings:
    """Where the cation is, least charge of the deposited, losses."""
    x, label = time_axis(np.array([row.time for row in rows]), has_times)

    def curve(name: str, column: str) -> Series:
        return Series(name, x, [float(getattr(row, column)) for row in rows])

    findings = Findings()
    findings.charts.append(
        Chart(
            "deposition", "Deposition", f"Where the {cation} is", "", label, "atoms",
            [curve("deposited", "n_deposited"), curve("in the interphase", "n_in_sei"),
             curve("in the electrolyte", "n_in_electrolyte")],
        )
    )  # fmt: skip
    if any(np.isfinite(row.min_charge) for row in rows):
        findings.charts.append(
            Chart("min_charge", "Deposition", f"Least charge of the deposited {cation}", "", label, "e",
                  [curve("least charge", "min_charge")])
        )  # fmt: skip
    losses = [
        curve(name, column)
        for name, column in (
            (f"{cation} into the interphase", "cation_loss_percent"),
            ("solvent", "solvent_loss_percent"),
            ("salt", "salt_loss_percent"),
        )
        if np.isfinite(getattr(rows[0], column))
    ]
    if losses:
        findings.charts.append(
            Chart(
                "losses", "Deposition", "Losses since the first frame", "", label, "percent", losses
            )
        )
    table = [
        [time, *(_number(v) if isinstance(v, float) else v for v in astuple(row)[1:])]
        for time, row in zip(x, rows)
    ]
    header = [
        label, "deposited", "in the interphase", "in the electrolyte", "least charge / e",
        f"{cation} lost / %", "solvent lost / %", "salt lost / %",
    ]  # fmt: skip
    findings.tables.append(Table("deposition_table", "Deposition", "Counts", "", header, table))
    return findings


def summarize_history(history: Sequence[tuple[float, float, float]], has_times: bool) -> Findings:
    """Energy and temperature (time, eV, K) where the trajectory has them."""
    findings = Findings()
    values = np.array(history)
    if len(values) == 0:
        return findings
    x, label = time_axis(values[:, 0], has_times)
    for column, name, title, unit in (
        (1, "energy", "Energy of the frames", "eV"),
        (2, "temperature", "Temperature of the frames", "K"),
    ):
        if np.isfinite(values[:, column]).any():
            series = [Series(name, x, values[:, column].tolist())]
            caption = "Of those frames of the trajectory that tell it."
            findings.charts.append(Chart(name, "History", title, caption, label, unit, series))
    return findings
