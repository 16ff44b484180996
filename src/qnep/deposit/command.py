"""`qnep deposit`: PLUMED-driven deposition of sodium through an interface."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qnep.axis_option import AXES, parse_axis
from qnep.deposit.deposition import FIGURE, REGIONS_PICTURE, TABLE, Deposition
from qnep.deposit.dynamics import Dynamics
from qnep.deposit.engine import ForceField, LammpsProgram
from qnep.deposit.interval import BIASES, VARIABLES, Protocol
from qnep.deposit.regions import FACES, choose_regions, draw_regions, region_table, select
from qnep.deposit.state import STATE_FILE
from qnep.io import read_last_frame
from qnep.lammps.resumed_settings import given_settings, require_kept, with_default

DEFAULTS = Protocol()
N_INTERVALS = 100
SELECTIONS = {
    "anode": "auto",
    "sei": "auto",
    "electrolyte": "auto",
    "faces": "auto",
    "frozen": "none",
}
AXIS = 2
"""Defaults of the options that decide a run. The parser has none: with --resume it matters which of them were given."""


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
    parser.add_argument(
        "--intervals", type=int, help=with_default("ions to carry in all", N_INTERVALS)
    )
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
        group.add_argument(
            f"--{name}", metavar="ATOMS", help=with_default(meaning, SELECTIONS[name])
        )
    group.add_argument(
        "--axis",
        type=parse_axis,
        help=with_default("normal of the interface: x, y, z, or 0, 1, 2", AXES[AXIS]),
    )
    group.add_argument(
        "--faces",
        choices=FACES,
        help=with_default(
            "of a periodic anode on which sodium arrives: auto is both where both are touched",
            SELECTIONS["faces"],
        ),
    )
    group.add_argument(
        "--frozen",
        metavar="ATOMS",
        help=with_default("atoms that stay where they are", SELECTIONS["frozen"]),
    )
    group.add_argument("--show", action="store_true", help="show the regions and run nothing")


def _add_protocol(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("protocol")
    group.add_argument(
        "--source",
        choices=("electrolyte", "reservoir"),
        help=with_default(
            "where the sodium comes from: that of the electrolyte, or one atom comes in for each that is carried",
            DEFAULTS.source,
        ),
    )
    group.add_argument(
        "--choice",
        choices=("nearest", "random", "least-coordinated"),
        help=with_default("which ion is carried next", DEFAULTS.choice),
    )
    group.add_argument(
        "--bias",
        choices=BIASES,
        help=with_default(
            "what carries it: a restraint that moves down, or well-tempered hills", DEFAULTS.bias
        ),
    )
    group.add_argument(
        "--variables",
        nargs="+",
        choices=VARIABLES,
        help=with_default(
            "what is biased: height above the anode, coordination by the solvation shell",
            " ".join(DEFAULTS.variables),
        ),
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
    add_numbers(group, numbers, DEFAULTS)


def add_numbers(
    group: argparse._ActionsContainer, numbers: Mapping[str, str], defaults: Dynamics
) -> None:
    """Add options for numbers of the dynamics, whose meanings are given by name, and the seed; defaults in the help."""
    for name, meaning in numbers.items():
        group.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="NUMBER",
            type=float,
            help=with_default(meaning, getattr(defaults, name)),
        )
    group.add_argument(
        "--seed", type=int, help=with_default("of all random numbers", defaults.seed)
    )


def run(options: argparse.Namespace) -> None:
    """Start or resume a run and print its rows."""
    if options.intervals is not None and options.intervals < 0:
        raise ValueError(f"--intervals: wanted 0 or more, got {options.intervals}")
    if options.resume:
        deposition = _resume(options)
        print(f"{len(deposition.state.rows)} rows are done; going on")
    else:
        started = _start(options)
        if started is None:
            return
        deposition = started
    n_intervals = N_INTERVALS if options.intervals is None else options.intervals
    deposition.run(n_intervals, _print_row)
    print(f"table {options.folder / TABLE}, figure {options.folder / FIGURE}")


def _resume(options: argparse.Namespace) -> Deposition:
    """The run in the folder; what is given again must be the same, but LAMMPS may be started in another way."""
    if options.show:
        raise ValueError("--show: the regions are shown before a run, leave out --resume")
    deposition = Deposition.resume(options.folder)
    state = deposition.state
    file = options.folder / STATE_FILE
    stored = {name: value for name, value in vars(state.protocol).items() if name != "frozen"}
    stored |= {"axis": AXES[state.regions.axis], **state.selections}
    require_kept(_given(options), stored, file, {"structure": "structure"})
    require_same_forces(options, state.force_field, state.protocol.temperature, file)
    n_done = len(state.rows) - 1
    if options.intervals is not None and options.intervals < n_done:
        raise ValueError(
            f"--intervals: the run in {options.folder} has {n_done}, more are possible, got {options.intervals}"
        )
    if options.lammps:
        state.program = LammpsProgram.find(options.lammps)
    return deposition


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The options on the command line that decide the run, but for its forces."""
    names = {*Protocol.__dataclass_fields__, *SELECTIONS, "structure", "axis"}
    given = given_settings(options, names)
    if "axis" in given:
        given["axis"] = AXES[given["axis"]]
    if "structure" in given:
        given["structure"] = str(Path(given["structure"]).resolve())
    return given


def require_same_forces(
    options: argparse.Namespace, stored: ForceField, temperature: float, file: Path
) -> None:
    """Check a model, a force field or elements that are given beside --resume.

    Raises
    ------
    ValueError : they would give other LAMMPS lines than those of the run.
    """
    if options.elements is not None:
        elements = tuple(options.elements.split(","))
        require_kept({"elements": elements}, {"elements": stored.elements}, file)
    if options.model is None and options.force_field is None:
        return
    given = force_field_of(options, list(stored.elements), temperature)
    name = "force_field" if options.model is None else "model"
    require_kept({name: _one_line(given)}, {name: _one_line(stored)}, file)


def _one_line(force_field: ForceField) -> str:
    lines = (line.strip() for line in force_field.commands.splitlines())
    return "; ".join(line for line in lines if line)


def _start(options: argparse.Namespace) -> Deposition | None:
    if options.structure is None:
        raise ValueError("name a structure, or --resume with the --folder of a run")
    axis = AXIS if options.axis is None else options.axis
    given = _given(options)
    chosen = {name: given.pop(name, default) for name, default in SELECTIONS.items()}
    structure = read_last_frame(options.structure)
    atoms, regions = choose_regions(
        structure, axis, chosen["anode"], chosen["sei"], chosen["electrolyte"], chosen["faces"]
    )
    print(region_table(atoms, regions))
    if options.show:
        options.folder.mkdir(parents=True, exist_ok=True)
        draw_regions(atoms, regions, options.folder / REGIONS_PICTURE)
        print(f"picture {options.folder / REGIONS_PICTURE}")
        return None
    frozen = tuple(np.flatnonzero(select(structure, chosen["frozen"], axis)).tolist())
    protocol = Protocol(
        **{name: given[name] for name in given if name in Protocol.__dataclass_fields__},
        frozen=frozen,
    )
    present = sorted({*atoms.get_chemical_symbols(), "Na"})
    deposition = Deposition.start(
        options.folder,
        atoms,
        regions,
        force_field_of(options, present, protocol.temperature),
        protocol,
        LammpsProgram.find(options.lammps),
        {"structure": given["structure"], **chosen},
    )
    print(f"picture of the regions {options.folder / REGIONS_PICTURE}", flush=True)
    return deposition


def force_field_of(
    options: argparse.Namespace, present: list[str], temperature: float
) -> ForceField:
    """Return the force field that the options name, for the elements that are present and a temperature (K)."""
    elements = options.elements.split(",") if options.elements else present
    if (options.model is None) == (options.force_field is None):
        raise ValueError("name either a --model or a --force-field")
    if options.model:
        return ForceField.from_model(options.model, elements, temperature)
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
