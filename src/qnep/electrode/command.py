"""`qnep electrode`: charge and discharge a cell with two metal electrodes."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any, cast

import numpy as np
from ase import Atoms
from ase.io import read

from qnep.calculator import QNEP
from qnep.electrode.constant_potential import ConstantPotential
from qnep.electrode.cycling import FIGURE, STATE, TABLE, Cycling, CyclingProtocol
from qnep.electrode.membership import CoordinationMembership
from qnep.electrode.parameters import Electrode, ElementParameters
from qnep.electrode.slab import unwrap

CELL = "cell.extxyz"
DEFAULTS = CyclingProtocol()
MEMBERSHIP = CoordinationMembership([])


def register(subparsers: Any) -> None:
    """Add the parser of `qnep electrode`."""
    parser = subparsers.add_parser(
        "electrode",
        help="electrodes at constant potential",
        description="Charge and discharge a cell metal | electrolyte | metal | vacuum, as `qnep build` makes it, at "
        "given potentials that change places with every half cycle.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "structure", nargs="?", help="in any format that ASE reads; vacuum along --axis"
    )
    parser.add_argument(
        "--build",
        metavar="OPTIONS",
        help="build the cell instead: options of `qnep build interface --electrodes 2` in quotes, as "
        "'--solvent EC --salt NaPF6 --atoms 700'; it is left in --folder",
    )
    parser.add_argument("--model", required=True, help="qNEP model file with charges")
    parser.add_argument("--folder", type=Path, default=Path("electrode"), help="of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --folder")
    parser.add_argument("--threads", type=int, default=1)
    _add_electrodes(parser)
    _add_protocol(parser)
    parser.set_defaults(run=run)


def _add_electrodes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("electrodes")
    group.add_argument("--metal", default="Na", help="symbol of the electrodes' metal")
    group.add_argument("--axis", type=int, choices=(0, 1, 2), default=2, help="cell vector")
    group.add_argument(
        "--plane",
        type=float,
        help="fraction of --axis that divides the electrodes; default: the middle of the atoms",
    )
    group.add_argument(
        "--distances",
        type=float,
        nargs=2,
        default=MEMBERSHIP.distances,
        help="Å, between which a neighbour fades out",
    )
    group.add_argument(
        "--counts",
        type=float,
        nargs=2,
        default=MEMBERSHIP.counts,
        help="of neighbours, where an atom joins",
    )
    group.add_argument("--hardness", type=float, help="V/e of the metal; default: from the table")


def _add_protocol(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("protocol")
    group.add_argument(
        "--potentials",
        type=float,
        nargs=2,
        default=DEFAULTS.potentials_V,
        help="V, lower and upper",
    )
    group.add_argument("--half-cycles", type=int, default=DEFAULTS.n_half_cycles)
    group.add_argument("--half-cycle", type=float, default=DEFAULTS.half_cycle_ps, help="ps")
    group.add_argument("--timestep", type=float, default=DEFAULTS.timestep_fs, help="fs")
    group.add_argument("--temperature", type=float, default=DEFAULTS.temperature_K, help="K")
    group.add_argument("--friction", type=float, default=DEFAULTS.friction_per_ps, help="1/ps")
    group.add_argument("--report", type=float, default=DEFAULTS.report_fs, help="fs between rows")
    group.add_argument("--seed", type=int, default=DEFAULTS.seed)
    group.add_argument(
        "--relax", type=int, default=100, help="steps, at most, of a minimisation at the start"
    )


def run(options: argparse.Namespace) -> None:
    """Cycle the cell and say where the results lie."""
    atoms = cast(Atoms, read(_structure(options)))
    atoms.pbc[options.axis] = True  # `qnep build` marks it open; the slab term opens it again
    protocol = CyclingProtocol(
        tuple(options.potentials),
        options.half_cycles,
        options.half_cycle,
        options.timestep,
        options.temperature,
        options.friction,
        options.report,
        options.seed,
        options.relax,
    )
    membership = CoordinationMembership(
        [options.metal],
        tuple(options.distances),
        tuple(options.counts),
        [_middle(atoms, options.axis) if options.plane is None else options.plane],
        axis=options.axis,
    )
    electrodes = [
        Electrode(name, potential_V=potential)
        for name, potential in zip(("lower", "upper"), protocol.potentials_V)
    ]
    calculator = ConstantPotential(
        QNEP(options.model, n_threads=options.threads),
        electrodes,
        membership,
        parameters=None
        if options.hardness is None
        else {options.metal: ElementParameters(0.0, options.hardness, 1.0)},
        slab_axis=options.axis,
        n_threads=options.threads,
    )
    cycling = Cycling(atoms, calculator, membership, protocol, options.folder, options.resume)
    cycling.run()
    print(f"table {options.folder / TABLE}, figure {options.folder / FIGURE}")


def _structure(options: argparse.Namespace) -> Path:
    """The structure that is named or built; that of a run which is resumed lies in its folder."""
    if (options.structure is None) == (options.build is None) and not options.resume:
        raise ValueError(
            "name either a structure or --build with options of `qnep build interface`"
        )
    if options.structure is not None:
        return Path(options.structure)
    cell = options.folder / CELL
    if options.build is None:
        return options.folder / STATE
    if not cell.exists():
        options.folder.mkdir(parents=True, exist_ok=True)
        from qnep.cli import main

        words = ["interface", "--electrodes", "2", "--solid", options.metal]
        # What is given twice counts as given last.
        status = main(
            ["build", *words, *shlex.split(options.build), "-o", str(cell.with_suffix(""))]
        )
        if status:
            raise ValueError("the cell could not be built, see above")
    return cell


def _middle(atoms: Atoms, axis: int) -> float:
    """Fraction along the axis half way between the outermost atoms."""
    fractions = unwrap(atoms.positions, atoms.cell.array, axis)[1]
    return float(0.5 * (np.min(fractions) + np.max(fractions)))
