"""`qnep electrode`: charge and discharge a cell with two metal electrodes."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from qnep.axis_option import AXES, parse_axis
from qnep.calculator import QNEP
from qnep.electrode.constant_potential import ConstantPotential
from qnep.electrode.cycling import (
    FIGURE,
    STATE,
    TABLE,
    Cycling,
    CyclingProtocol,
    require_no_run,
)
from qnep.electrode.membership import CoordinationMembership
from qnep.electrode.parameters import Electrode, ElementParameters
from qnep.electrode.settings import CyclingSettings, digest
from qnep.electrode.slab import unwrap
from qnep.io import read_last_frame
from qnep.model import Model

CELL = "cell.extxyz"
METAL = "Na"
DEFAULTS = CyclingProtocol(relax_steps=100)
MEMBERSHIP = CoordinationMembership([])


def register(subparsers: Any) -> None:
    """Add the parser of `qnep electrode`."""
    parser = subparsers.add_parser(
        "electrode",
        help="electrodes at constant potential",
        description="Charge and discharge a cell metal | electrolyte | metal | vacuum, as `qnep build` makes it, at "
        "given potentials that change places with every half cycle.",
        argument_default=argparse.SUPPRESS,  # only what is given must be that of a run which is resumed
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
    parser.add_argument("--model", help="qNEP model file with charges")
    parser.add_argument(
        "--folder", type=Path, default=Path("electrode"), help="of the run (default: %(default)s)"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        default=False,
        help="go on with the run in --folder, which keeps its options; only --half-cycles may be another",
    )
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    _add_electrodes(parser)
    _add_protocol(parser)
    parser.set_defaults(run=run)


def _add_electrodes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("electrodes")
    group.add_argument("--metal", help=f"symbol of the electrodes' metal (default: {METAL})")
    group.add_argument(
        "--axis",
        type=parse_axis,
        help=f"cell vector through the vacuum: x, y, z, or 0, 1, 2 (default: {AXES[MEMBERSHIP.axis]})",
    )
    group.add_argument(
        "--plane",
        type=float,
        help="fraction of --axis that divides the electrodes (default: the middle of the atoms)",
    )
    group.add_argument(
        "--distances",
        type=float,
        nargs=2,
        help=f"Å, between which a neighbour fades out (default: {_words(MEMBERSHIP.distances)})",
    )
    group.add_argument(
        "--counts",
        type=float,
        nargs=2,
        help=f"of neighbours, where an atom joins (default: {_words(MEMBERSHIP.counts)})",
    )
    group.add_argument("--hardness", type=float, help="V/e of the metal (default: from the table)")


def _add_protocol(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("protocol")
    group.add_argument(
        "--potentials",
        dest="potentials_V",
        metavar=("LOWER", "UPPER"),
        type=float,
        nargs=2,
        help=f"V (default: {_words(DEFAULTS.potentials_V)})",
    )
    for flag, name, kind, meaning in (
        ("--half-cycles", "n_half_cycles", int, "in all"),
        ("--half-cycle", "half_cycle_ps", float, "ps"),
        ("--timestep", "timestep_fs", float, "fs"),
        ("--temperature", "temperature_K", float, "K"),
        ("--friction", "friction_per_ps", float, "1/ps"),
        ("--report", "report_fs", float, "fs between rows"),
        ("--seed", "seed", int, "of velocities and thermostat"),
        ("--relax", "relax_steps", int, "steps, at most, of a minimisation at the start"),
    ):
        group.add_argument(
            flag,
            dest=name,
            metavar=flag.removeprefix("--").replace("-", "_").upper(),
            type=kind,
            help=f"{meaning} (default: {getattr(DEFAULTS, name)})",
        )


def _words(numbers: Sequence[float]) -> str:
    return " ".join(str(number) for number in numbers)


def run(options: argparse.Namespace) -> None:
    """Cycle the cell and say where the results lie."""
    folder = options.folder
    settings = _resumed(options) if options.resume else _chosen(options)
    state = folder / STATE
    source = state if state.exists() else Path(settings.structure)
    atoms = _read_cell(source, settings.axis)
    _check_metal(atoms, settings.metal, source)
    protocol = settings.protocol
    membership = CoordinationMembership(
        [settings.metal],
        settings.distances,
        settings.counts,
        [settings.plane],
        axis=settings.axis,
    )
    electrodes = [
        Electrode(name, potential_V=potential)
        for name, potential in zip(("lower", "upper"), protocol.potentials_V)
    ]
    calculator = ConstantPotential(
        QNEP(settings.model, n_threads=options.threads),
        electrodes,
        membership,
        parameters=None
        if settings.hardness is None
        else {settings.metal: ElementParameters(0.0, settings.hardness, 1.0)},
        slab_axis=settings.axis,
        n_threads=options.threads,
    )
    cycling = Cycling(atoms, calculator, membership, protocol, folder, options.resume)
    settings.save(folder)
    cycling.run()
    print(f"table {folder / TABLE}, figure {folder / FIGURE}")


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The options on the command line that decide the run, by the names of its settings and its protocol."""
    names = {field.name for kind in (CyclingSettings, CyclingProtocol) for field in fields(kind)}
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(options).items()
        if name in names
    }
    paths = {key: str(Path(given[key]).resolve()) for key in ("structure", "model") if key in given}
    return given | paths


def _resumed(options: argparse.Namespace) -> CyclingSettings:
    """Settings of the run in the folder; what is given again must be the same."""
    return CyclingSettings.load(options.folder).resumed(_given(options))


def _chosen(options: argparse.Namespace) -> CyclingSettings:
    """Settings of a new run: what is given, else the defaults."""
    given = _given(options)
    if ("structure" in given) == ("build" in given):
        raise ValueError(
            "name either a structure or --build with options of `qnep build interface`"
        )
    if "model" not in given:
        raise ValueError("name a --model")
    _check_charges(given["model"])  # before a cell is built for it
    require_no_run(options.folder)
    protocol = {
        field.name: given.pop(field.name) for field in fields(DEFAULTS) if field.name in given
    }
    metal, axis = given.get("metal", METAL), given.get("axis", MEMBERSHIP.axis)
    if "build" in given:
        given["structure"] = str(_build_cell(options.folder, metal, given["build"]))
    if "plane" not in given:
        given["plane"] = _middle(_read_cell(given["structure"], axis), axis)
    defaults = {
        "build": None,
        "metal": metal,
        "axis": axis,
        "distances": MEMBERSHIP.distances,
        "counts": MEMBERSHIP.counts,
        "hardness": None,
    }
    return CyclingSettings(
        **{**defaults, **given},
        model_sha256=digest(given["model"]),
        protocol=replace(DEFAULTS, **protocol),
    )


def _check_charges(path: str) -> None:
    """Raise ValueError for a model without charges: electrodes add theirs to those of the model."""
    model = Model.read(path)
    if model.charge_mode == 0:
        raise ValueError(
            f"--model {path}: wanted a model with charges (a qNEP, trained with charge_mode 1 or 2), "
            f"got a {model.token}, which has none"
        )


def _check_metal(atoms: Atoms, metal: str, source: Path) -> None:
    """Raise ValueError for a cell whose electrodes must be of something else."""
    present = sorted(set(atoms.get_chemical_symbols()))
    if metal not in present:
        raise ValueError(
            f"--metal: wanted the element of the electrodes (default: {METAL}), got {metal}, but {source} has no "
            f"{metal}, only {', '.join(present)}"
        )


def _build_cell(folder: Path, metal: str, build: str) -> Path:
    """Build a cell with two electrodes in the folder and return its file."""
    from qnep.cli import main

    cell = (folder / CELL).resolve()
    cell.parent.mkdir(parents=True, exist_ok=True)
    words = ["interface", "--electrodes", "2", "--solid", metal]
    # What is given twice counts as given last.
    if main(["build", *words, *shlex.split(build), "-o", str(cell.with_suffix(""))]):
        raise ValueError("the cell could not be built, see above")
    return cell


def _read_cell(path: str | Path, axis: int) -> Atoms:
    atoms = read_last_frame(path)
    atoms.pbc[axis] = True  # `qnep build` marks it open; the slab term opens it again
    return atoms


def _middle(atoms: Atoms, axis: int) -> float:
    """Fraction along the axis half way between the outermost atoms."""
    fractions = unwrap(atoms.positions, atoms.cell.array, axis)[1]
    return float(0.5 * (np.min(fractions) + np.max(fractions)))
