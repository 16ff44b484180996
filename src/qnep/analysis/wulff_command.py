"""The command `qnep wulff`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from qnep.analysis.bond_cutoffs import BondCutoffs, parse_bond_option
from qnep.analysis.crystals import Lattice, Nucleus, find_crystals
from qnep.analysis.findings import FINDINGS_FILE, Chart, Findings, Series, Table
from qnep.analysis.trajectory import open_trajectory
from qnep.analysis.wulff import (
    JOULES_PER_M2,
    Miller,
    SurfaceEnergies,
    WulffResult,
    compare_with_shape,
    facet_name,
    surface_energies,
)
from qnep.files import check_creatable
from qnep.io import read_last_frame

DEFAULT_CRYSTAL = "rocksalt:Na,F"
DEFAULT_FACETS = "100,110,111,210"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `qnep wulff`."""
    parser = subparsers.add_parser(
        "wulff",
        help="surface energies and the Wulff shape",
        description="Compute surface energies with any ASE calculator, build the Wulff shape, and compare it with the "
        "largest crystal of a trajectory.",
    )
    parser.add_argument(
        "--crystal",
        help=f"as {DEFAULT_CRYSTAL} (taken without --bulk), bcc:Na or fcc:Al; for --trajectory rocksalt or bcc",
    )
    parser.add_argument(
        "-a",
        "--lattice-constant",
        type=float,
        default=4.63,
        help="to start from, Å (default: %(default)s)",
    )
    parser.add_argument(
        "--bulk",
        type=Path,
        help="conventional cell in a file; --crystal then only says what to look for in --trajectory",
    )
    parser.add_argument(
        "--facets", default=DEFAULT_FACETS, help="(1,-1,0) as 1/-1/0 (default: %(default)s)"
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", type=Path, help="nep.txt")
    which.add_argument(
        "--calculator", metavar="NAME", help="tblite, gpaw, ... of qnep label, or module:callable"
    )
    parser.add_argument(
        "--thicknesses",
        type=float,
        nargs="+",
        default=[8.0, 14.0, 20.0],
        help="of the slabs, Å (default: 8 14 20)",
    )
    parser.add_argument("--vacuum", type=float, default=12.0, help="Å (default: %(default)g)")
    parser.add_argument("--unrelaxed", action="store_true", help="do not relax the slabs")
    parser.add_argument("--trajectory", type=Path, help="compare with its largest crystal")
    parser.add_argument("--elements", help="of types 1, 2, ... of the trajectory")
    parser.add_argument("--frame", type=int, default=0, help="of the trajectory (default: 0)")
    parser.add_argument(
        "--bond",
        action="append",
        default=[],
        metavar="PAIR=FORM:BREAK",
        help="distances of pairs of the trajectory that are not built in, as K-F=3.2:3.7, Å",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("wulff"), help="folder (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Compute, print, write, build the shape, compare, write again.

    Slabs may take days, the rest takes seconds: so what can be wrong with the crystal to compare with is found out
    before, and the energies are on disk before anything is made of them.
    """
    check_creatable(options.output / FINDINGS_FILE)
    cell = read_bulk(options)
    facets = [parse_facet(text) for text in options.facets.split(",")]
    crystal = find_largest_crystal(options) if options.trajectory else None
    found = surface_energies(
        cell, facets, make_calculator(options), report=print, thicknesses=options.thicknesses,
        vacuum=options.vacuum, relax=not options.unrelaxed,
    )  # fmt: skip
    summarize(found).write(options.output)
    print(f"surface energies written to {options.output}")
    result = found.wulff()
    findings = summarize(found, result.shape.area_fractions)
    findings.write(options.output)
    draw_shape(result, options.output)
    if crystal is not None:
        findings.tables.append(_compare(crystal, result))
        findings.write(options.output)
    print(f"lowest: {facet_name(result.lowest)}; written to {options.output}")


def parse_facet(text: str) -> Miller:
    """Return (1, 1, 0) of "110", and (1, -1, 0) of "1/-1/0".

    Raises
    ------
    ValueError : for anything else.
    """
    parts = text.split("/") if "/" in text else list(text)
    try:
        h, k, l = (int(part) for part in parts)
    except ValueError:
        raise ValueError(f"a facet is three digits or h/k/l, got {text!r}") from None
    if (h, k, l) == (0, 0, 0):
        raise ValueError("the facet (000) does not exist")
    return h, k, l


def read_bulk(options: argparse.Namespace) -> Atoms:
    """Return the conventional cell that options name."""
    if options.bulk:
        return read_last_frame(options.bulk)
    crystal = options.crystal or DEFAULT_CRYSTAL
    kind, _, elements = crystal.partition(":")
    try:
        return bulk(elements.replace(",", ""), kind, a=options.lattice_constant, cubic=True)
    except (ValueError, RuntimeError, KeyError) as failure:
        raise ValueError(f"cannot build the crystal {crystal!r}: {failure}") from None


def make_calculator(options: argparse.Namespace) -> Any:
    """Return the ASE calculator that options name."""
    if options.model:
        import qnep

        return qnep.QNEP(options.model)
    from qnep.dft import get_backend

    return get_backend(options.calculator)


def summarize(
    result: SurfaceEnergies, area_fractions: Mapping[Miller, float] | None = None
) -> Findings:
    """Return tables and a chart of the convergence; parts of the shape (0 to 1) stay blank where they are not known."""
    rows = [
        [
            facet_name(m), one.energy_J_per_m2, one.convergence * JOULES_PER_M2, int(one.n_atoms[-1]),
            "" if area_fractions is None else 100 * area_fractions.get(m, 0.0), "",
        ]
        for m, one in sorted(result.energies.items(), key=lambda item: item[1].energy)
    ]  # fmt: skip
    rows += [[facet_name(m), "", "", "", "", why] for m, why in result.refused.items()]
    header = [
        "facet",
        "J/m²",
        "change with the last slab, J/m²",
        "atoms",
        "% of the shape",
        "remark",
    ]
    series = [
        Series(facet_name(m), one.thicknesses[1:].tolist(), (one.energies * JOULES_PER_M2).tolist())
        for m, one in result.energies.items()
    ]
    return Findings(
        tables=[Table("surface_energies", "Wulff", "Surface energies", "", header, rows)],
        charts=[
            Chart("slab_convergence", "Wulff", "Convergence with the slab", "", "thickness / Å", "J/m²", series)
        ],
    )  # fmt: skip


@dataclass(frozen=True)
class FoundCrystal:
    """A crystal and the lattice that was looked for."""

    lattice: Lattice
    nucleus: Nucleus


def find_largest_crystal(options: argparse.Namespace) -> FoundCrystal:
    """Return the largest crystal of the frame of a trajectory that options name.

    Raises
    ------
    ValueError : options do not say which crystal, or one that cannot be looked for; an unreadable trajectory; no
        such crystal in the frame.
    """
    if options.bulk and not options.crystal:
        raise ValueError(
            "--bulk with --trajectory needs --crystal, as rocksalt:Li,F: what to look for in the trajectory"
        )
    text = options.crystal or DEFAULT_CRYSTAL
    try:
        lattice = Lattice.parse(text)
    except ValueError as failure:
        raise ValueError(
            f"--crystal {text} cannot be looked for in a trajectory ({failure}); leave --trajectory out"
        ) from None
    elements = options.elements.split(",") if options.elements else None
    with open_trajectory(options.trajectory, elements=elements, start=options.frame) as trajectory:
        frame = next(iter(trajectory))
    cutoffs = BondCutoffs(dict(parse_bond_option(text) for text in options.bond))
    nuclei = find_crystals(frame, lattice, cutoffs=cutoffs).nuclei
    if not nuclei:
        raise ValueError(
            f"no crystal of {lattice.name} in frame {frame.index} of {options.trajectory}"
        )
    return FoundCrystal(lattice, nuclei[0])


def _compare(crystal: FoundCrystal, result: WulffResult) -> Table:
    """Compare the shape with a crystal."""
    nucleus = crystal.nucleus
    volume_per_atom = result.bulk.get_volume() / len(result.bulk)
    match = compare_with_shape(
        nucleus.positions,
        nucleus.axes,
        volume_per_atom,
        result.shape,
        kind=crystal.lattice.kind,
    )
    print(
        f"largest crystal: {nucleus.size} atoms, overlap with the Wulff shape {match.overlap:.3f}, "
        f"facets aligned {match.facet_alignment:.3f}"
    )
    rows = [
        ["atoms", nucleus.size],
        ["overlap", match.overlap],
        ["facet alignment", match.facet_alignment],
    ]
    rows += [[f"surface along {facet_name(m)}", part] for m, part in match.by_facet.items()]
    return Table("comparison", "Wulff", "Crystal and Wulff shape", "", ["measure", "value"], rows)


def draw_shape(result: WulffResult, folder: Path) -> None:
    """Write the shape as PNG and PDF, its facets coloured and named by their forms."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection="3d")
    result.shape.particle.make_plot(axes)
    reach = 1.2 * max(float(np.abs(f.vertices).max()) for f in result.shape.particle.facets)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach), box_aspect=(1, 1, 1))
    axes.set_axis_off()
    axes.legend(loc="lower center", ncols=4, frameon=False)  # forms as WulffPack names them: {100}
    for extension in ("png", "pdf"):
        figure.savefig(folder / f"wulff_shape.{extension}", dpi=160)
