"""`qnep deposit`: PLUMED-driven deposition of sodium through an interface."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qnep.axis_option import parse_axis
from qnep.deposit.deposition import FIGURE, REGIONS_PICTURE, TABLE, Deposition
from qnep.deposit.engine import ForceField, LammpsProgram
from qnep.deposit.interval import BIASES, VARIABLES, Protocol
from qnep.deposit.regions import FACES, choose_regions, draw_regions, region_table, select
from qnep.io import read_last_frame

DEFAULTS = Protocol()


class KnownDefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default of an option to its help, where there is one to tell and the help does not tell it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        tells_none = action.default is None or action.default is False
        if tells_none or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def register(subparsers: Any) -> None:
    """Add the parser of `qnep deposit`."""
    parser = subparsers.add_parser(
        "deposit",
        help="PLUMED-driven deposition through an interface",
        description="Carry one sodium ion per interval through the SEI to the anode and release it.",
        formatter_class=KnownDefaultsFormatter,
    )
    parser.add_argument("structure", nargs="?", help="interface in any format that ASE reads")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --folder")
    parser.add_argument("--folder", type=Path, default=Path("deposit"), help="of the run")
    parser.add_argument("--intervals", type=int, default=100, help="ions to carry in all")
    add_force_field_options(parser)
    _add_regions(parser)
    _add_protocol(parser)
    parser.set_defaults(run=run)


def add_force_field_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where forces come from and how LAMMPS is started."""
    group = parser.add_argument_group("forces")
    group.add_argument("--model", help="qNEP model file")
    group.add_argument(
        "--force-field", help="file of LAMMPS lines (pair_style ...) in place of a model"
    )
    group.add_argument(
        "--elements", help="of the force field's atom types, as Na,C,O (default: alphabetical)"
    )
    group.add_argument("--lammps", help="command that starts LAMMPS, as 'mpirun -n 4 lmp'")


def _add_regions(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "regions",
        "each: auto, none, or indices=0-63,70 (from 0), elements=C,H, between=0:12.5 (Å), joined by &",
    )
    for name, meaning in (
        ("anode", "atoms of the electrode on which sodium arrives"),
        ("sei", "atoms between anode and electrolyte"),
        ("electrolyte", "atoms whose sodium is carried and whose molecules are counted"),
    ):
        group.add_argument(f"--{name}", default="auto", metavar="ATOMS", help=meaning)
    group.add_argument(
        "--axis", type=parse_axis, default="z", help="normal of the interface: x, y, z, or 0, 1, 2"
    )
    group.add_argument(
        "--faces",
        choices=FACES,
        default="auto",
        help="of a periodic anode on which sodium arrives: auto is both where both are touched",
    )
    group.add_argument(
        "--frozen", default="none", metavar="ATOMS", help="atoms that stay where they are"
    )
    group.add_argument("--show", action="store_true", help="show the regions and run nothing")


def _add_protocol(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("protocol")
    group.add_argument(
        "--source",
        choices=("electrolyte", "reservoir"),
        default=DEFAULTS.source,
        help="where the sodium comes from: that of the electrolyte, or one atom comes in for each that is carried",
    )
    group.add_argument(
        "--choice",
        choices=("nearest", "random", "least-coordinated"),
        default=DEFAULTS.choice,
        help="which ion is carried next",
    )
    group.add_argument(
        "--bias",
        choices=BIASES,
        default=DEFAULTS.bias,
        help="what carries it: a restraint that moves down, or well-tempered hills",
    )
    group.add_argument(
        "--variables",
        nargs="+",
        choices=VARIABLES,
        default=list(DEFAULTS.variables),
        help="what is biased: height above the anode, coordination by the solvation shell (default: "
        f"{' '.join(DEFAULTS.variables)})",
    )
    numbers = {
        "interval_ps": "time for one ion, ps",
        "temperature": "of the run, K",
        "timestep_fs": "of the dynamics, fs",
        "damping_ps": "relaxation time of the Langevin bath, ps",
        "equilibration_ps": "before the first ion, ps",
        "arrival_height": "Å above the anode's surface, below which an ion counts as deposited",
        "release_height": "Å above the anode's surface, below which an ion is released",
        "spring": "of the moving restraint, eV/Å²",
        "hill_height": "of the metadynamics, eV",
        "hill_width": "of the metadynamics, Å, or neighbours",
        "hill_ps": "time between hills, ps",
        "bias_factor": "of the well-tempered metadynamics",
        "dump_ps": "time between frames of the trajectory, ps",
    }
    for name, meaning in numbers.items():
        flag = "--" + name.replace("_", "-")
        group.add_argument(
            flag, metavar="NUMBER", type=float, default=getattr(DEFAULTS, name), help=meaning
        )
    group.add_argument("--seed", type=int, default=DEFAULTS.seed, help="of all random numbers")


def run(options: argparse.Namespace) -> None:
    """Start or resume a run and print its rows."""
    if options.resume:
        deposition = Deposition.resume(options.folder)
        require_same_protocol(options, vars(DEFAULTS), vars(deposition.state.protocol))
        if options.lammps:
            deposition.state.program = LammpsProgram.find(options.lammps)
        print(f"{len(deposition.state.rows)} rows are done; going on")
    else:
        started = _start(options)
        if started is None:
            return
        deposition = started
    deposition.run(options.intervals, _print_row)
    print(f"table {options.folder / TABLE}, figure {options.folder / FIGURE}")


def require_same_protocol(
    options: argparse.Namespace, defaults: Mapping[str, Any], stored: Mapping[str, Any]
) -> None:
    """Check options beside --resume; one that has its default counts as not given.

    Raises
    ------
    ValueError : one is neither the default nor that of the run in the folder.
    """
    for name in (name for name in stored if name != "frozen" and hasattr(options, name)):
        given = getattr(options, name)
        given = tuple(given) if isinstance(given, list) else given
        if given not in (defaults[name], stored[name]):
            raise ValueError(
                f"--{name.replace('_', '-')}: the run in {options.folder} was started with {stored[name]}, "
                f"got {given}: leave it out, or start another run"
            )


def _start(options: argparse.Namespace) -> Deposition | None:
    if options.structure is None:
        raise ValueError("name a structure, or --resume with the --folder of a run")
    axis = options.axis
    structure = read_last_frame(options.structure)
    atoms, regions = choose_regions(
        structure, axis, options.anode, options.sei, options.electrolyte, options.faces
    )
    print(region_table(atoms, regions))
    if options.show:
        options.folder.mkdir(parents=True, exist_ok=True)
        draw_regions(atoms, regions, options.folder / REGIONS_PICTURE)
        print(f"picture {options.folder / REGIONS_PICTURE}")
        return None
    names = [name for name in vars(options) if name in Protocol.__dataclass_fields__]
    values = {name: getattr(options, name) for name in names}
    values["variables"] = tuple(options.variables)
    values["frozen"] = tuple(np.flatnonzero(select(structure, options.frozen, axis)).tolist())
    deposition = Deposition.start(
        options.folder,
        atoms,
        regions,
        force_field_of(options, sorted({*atoms.get_chemical_symbols(), "Na"})),
        Protocol(**values),
        LammpsProgram.find(options.lammps),
    )
    print(f"picture of the regions {options.folder / REGIONS_PICTURE}", flush=True)
    return deposition


def force_field_of(options: argparse.Namespace, present: list[str]) -> ForceField:
    """Return the force field that the options name, for the elements that are present."""
    elements = options.elements.split(",") if options.elements else present
    if (options.model is None) == (options.force_field is None):
        raise ValueError("name either a --model or a --force-field")
    if options.model:
        return ForceField.from_model(options.model, elements)
    return ForceField.from_file(options.force_field, elements)


def _print_row(row: dict[str, Any]) -> None:
    if row["interval"] == 0:
        print(
            f"{'time/ps':>9} {'ion':>5} {'arrived/ps':>10} {'down':>5} {'SEI':>5} {'electrolyte':>11} {'work/eV':>9}"
        )
    ion = "-" if row["ion"] is None else row["ion"]
    arrival = "-" if row["arrival_ps"] is None else f"{row['arrival_ps']:.2f}"
    print(
        f"{row['time_ps']:9.2f} {ion:>5} {arrival:>10} {row['deposited']:5d} {row['in_sei']:5d} "
        f"{row['in_electrolyte']:11d} {row['bias_work_eV']:9.3f}",
        flush=True,
    )
