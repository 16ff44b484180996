"""`qnep barrier`: free-energy profile along a collective variable, with error bars."""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from qnep._optional import require
from qnep.deposit.barrier import (
    STATE_FILE,
    BarrierRun,
    bias_temperature,
    find_columns,
    require_bias_temperature,
)
from qnep.deposit.command import (
    KnownDefaultsFormatter,
    add_force_field_options,
    add_numbers,
    force_field_of,
    require_same_forces,
)
from qnep.deposit.dynamics import Dynamics, require_positive
from qnep.deposit.engine import LammpsProgram
from qnep.deposit.frame import Frame
from qnep.deposit.free_energy import (
    KILOJOULE_PER_MOLE,
    Barrier,
    Profile,
    find_barrier,
    hill_variables,
    read_samples,
    reweighted_profile,
    summed_hills,
)
from qnep.deposit.regions import select
from qnep.io import read_last_frame
from qnep.lammps.resumed_settings import given_settings, require_kept, with_default

DEFAULTS = Dynamics()
COUNTS = {"walkers": 1, "pieces": 10, "time_ps": 100.0, "production": 0.5}
FROZEN = "none"
"""Defaults of the options that decide a run. The parser has none: with --resume it matters which of them were given."""
TABLE, FIGURE = "free_energy.dat", "free_energy.png"


def register(subparsers: Any) -> None:
    """Add the parser of `qnep barrier`."""
    parser = subparsers.add_parser(
        "barrier",
        help="free-energy profile along a collective variable",
        description="Run a PLUMED file (or take finished COLVAR and HILLS files) and give profile and barrier.",
        formatter_class=KnownDefaultsFormatter,
    )
    parser.add_argument("structure", nargs="?", help="in any format that ASE reads")
    parser.add_argument("--plumed", type=Path, help="PLUMED file with the bias, UNITS in Å, eV, ps")
    parser.add_argument("--folder", type=Path, default=Path("barrier"), help="of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --folder")
    for name, (kind, meaning) in {
        "walkers": (int, "that share their hills"),
        "time_ps": (
            float,
            "of each walker, ps; a larger one than before extends a run that is resumed",
        ),
        "pieces": (int, "in which the run can be taken up again"),
        "production": (
            float,
            "part of the run, at its end, that adds no more hills and makes the profile; 0: the whole run does",
        ),
    }.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, help=with_default(meaning, COUNTS[name])
        )
    parser.add_argument(
        "--temperature",
        metavar="NUMBER",
        type=float,
        help=with_default("of the run, K", f"TEMP of the PLUMED file, else {DEFAULTS.temperature}"),
    )
    numbers = {
        "timestep_fs": "of the dynamics, fs",
        "damping_ps": "relaxation time of the Langevin bath, ps",
        "dump_ps": "time between frames of the trajectory, ps",
    }
    add_numbers(parser, numbers, DEFAULTS)
    parser.add_argument(
        "--frozen", help=with_default("atoms that stay where they are, as indices=0-63", FROZEN)
    )
    add_force_field_options(parser)
    group = parser.add_argument_group("profile")
    group.add_argument(
        "--colvar", nargs="+", type=Path, help="finished files in place of a run, with --plumed"
    )
    group.add_argument(
        "--hills", nargs="+", type=Path, help="of the finished run, for a second estimate"
    )
    group.add_argument("--variable", help="of the profile (default: the first that is biased)")
    for state in ("reactant", "product"):
        group.add_argument(
            f"--{state}",
            nargs=2,
            type=float,
            metavar=("LOW", "HIGH"),
            help="range of its minimum; searched for where it is not given",
        )
    group.add_argument("--blocks", type=int, default=5, help="of time, for the errors")
    group.add_argument(
        "--discard",
        type=float,
        help="part left out at the start of what counts; default: 0.2 while the bias grows, else 0",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run or resume, then write table and figure and print the barrier."""
    _check_profile(options)
    colvars, hills, plumed_file, temperature, start_ps = _finished_files(options)
    columns = find_columns(plumed_file, options.variable)
    samples = [
        read_samples(path, columns.variable, columns.bias, columns.walls, start_ps)
        for path in colvars
    ]
    discard = options.discard
    if discard is None:
        discard = 0.0 if start_ps else 0.2
    profile = reweighted_profile(
        samples, columns.variable, temperature, options.blocks, discard=discard
    )
    summed = None
    if hills and columns.variable in hill_variables(hills[0]):
        summed = summed_hills(hills, columns.variable, profile.grid, temperature, options.folder)
    write_profile(options.folder / TABLE, profile, summed)  # also where it has no barrier to give
    barrier = find_barrier(
        profile,
        tuple(options.reactant) if options.reactant else None,
        tuple(options.product) if options.product else None,
    )
    draw_profile(options.folder / FIGURE, profile, barrier, summed)
    print(describe(barrier, profile.variable))
    print(f"table {options.folder / TABLE}, figure {options.folder / FIGURE}")


def _check_profile(options: argparse.Namespace) -> None:
    """Look at the options of the profile before the run, which may take days."""
    if options.blocks < 2:
        raise ValueError(f"--blocks: wanted 2 or more, got {options.blocks}")
    if options.discard is not None and not 0 <= options.discard < 1:
        raise ValueError(f"--discard: wanted a part from 0 to below 1, got {options.discard}")
    for state in ("reactant", "product"):
        low, high = getattr(options, state) or (0.0, 1.0)
        if not low < high:
            raise ValueError(f"--{state}: wanted LOW below HIGH, got {low:g} {high:g}")


def _finished_files(
    options: argparse.Namespace,
) -> tuple[list[Path], list[Path], Path, float, float]:
    """COLVAR and HILLS files, the PLUMED file that made them, the temperature (K), and from when they count (ps)."""
    if options.colvar:
        return _given_files(options)
    if options.hills:
        raise ValueError("--hills: wanted with --colvar, those of a run are in its folder")
    barrier_run = _resume(options) if options.resume else _start(options)
    barrier_run.run(lambda done, pieces: print(f"piece {done} of {pieces} done", flush=True))
    plumed_file = options.folder / "walker_0" / "plumed.dat"
    return (
        barrier_run.colvars,
        barrier_run.hills,
        plumed_file,
        barrier_run.state["dynamics"]["temperature"],
        barrier_run.static_from_ps,
    )


def _given_files(
    options: argparse.Namespace,
) -> tuple[list[Path], list[Path], Path, float, float]:
    if options.plumed is None:
        raise ValueError("--colvar needs the --plumed file that made it")
    if options.resume:
        raise ValueError("--colvar takes finished files: leave out --resume")
    temperature = _temperature(options)
    options.folder.mkdir(parents=True, exist_ok=True)
    return options.colvar, options.hills or [], options.plumed, temperature, 0.0


def _temperature(options: argparse.Namespace) -> float:
    """That of the bias, unless it says none; another one is refused."""
    if options.temperature is None:
        found = bias_temperature(options.plumed)
        return DEFAULTS.temperature if found is None else found
    require_positive("temperature", options.temperature)
    require_bias_temperature(options.plumed, options.temperature)
    return float(options.temperature)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The options on the command line that decide the run, but for its forces and its bias."""
    names = {*(field.name for field in fields(Dynamics)), *COUNTS, "structure"}
    given = given_settings(options, names)
    if "structure" in given:
        given["structure"] = str(Path(given["structure"]).resolve())
    return given


def _resume(options: argparse.Namespace) -> BarrierRun:
    """The run in the folder; what is given again must be the same, but it may be longer, and LAMMPS another."""
    barrier_run = BarrierRun(options.folder)
    state, file = barrier_run.state, options.folder / STATE_FILE
    dynamics = {name: value for name, value in state["dynamics"].items() if name != "frozen"}
    given = _given(options)
    time_ps = given.pop("time_ps", None)
    stored = {**dynamics, "walkers": state["walkers"], **barrier_run.asked}
    require_kept(given, stored, file, {"structure": "structure"})
    require_same_forces(options, barrier_run.force_field, dynamics["temperature"], file)
    if options.plumed is not None:
        barrier_run.require_same_bias(options.plumed)
    if options.lammps:
        state["program"] = asdict(LammpsProgram.find(options.lammps))
    if time_ps is not None:
        barrier_run.extend(time_ps)
    return barrier_run


def _start(options: argparse.Namespace) -> BarrierRun:
    if options.structure is None or options.plumed is None:
        raise ValueError("name a structure and a --plumed file, or --resume, or --colvar files")
    atoms = read_last_frame(options.structure)
    given = _given(options)
    structure, frozen = given.pop("structure"), given.pop("frozen", FROZEN)
    counts = {name: given.pop(name, default) for name, default in COUNTS.items()}
    dynamics = Dynamics(
        **{**given, "temperature": _temperature(options)},
        frozen=tuple(np.flatnonzero(select(atoms, frozen, 2)).tolist()),
    )
    return BarrierRun.start(
        options.folder,
        Frame.from_atoms(atoms, dynamics.temperature, dynamics.seed),
        options.plumed,
        force_field_of(options, sorted(set(atoms.get_chemical_symbols())), dynamics.temperature),
        dynamics,
        LammpsProgram.find(options.lammps),
        **counts,
        selections={"structure": structure, "frozen": frozen},
    )


def describe(barrier: Barrier, variable: str) -> str:
    """The numbers with units and standard errors."""

    def both(energy: float, error: float) -> str:
        scale = KILOJOULE_PER_MOLE
        return f"{energy:.4f} ± {error:.4f} eV = {energy * scale:.2f} ± {error * scale:.2f} kJ/mol"

    return (
        f"{variable}: reactant {barrier.reactant:.3f}, top {barrier.top:.3f}, product {barrier.product:.3f}\n"
        f"barrier  {both(barrier.forward, barrier.forward_error)}\n"
        f"reaction {both(barrier.reaction, barrier.reaction_error)}"
    )


def write_profile(path: Path, profile: Profile, summed: np.ndarray | None) -> None:
    """Write the profile as columns with units; nan where nothing was sampled."""
    columns = [profile.grid, profile.free_energy, profile.error]
    names = [profile.variable, "free_energy_eV", "standard_error_eV"]
    if summed is not None:
        columns.append(summed)
        names.append("sum_hills_eV")
    np.savetxt(path, np.column_stack(columns), fmt="%.8g", header=" ".join(names))


def draw_profile(path: Path, profile: Profile, barrier: Barrier, summed: np.ndarray | None) -> None:
    """Draw the profile with its error band and, if there, the sum of the hills."""
    pyplot = require("matplotlib.pyplot", extra="analysis")
    figure, axes = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    axes.plot(profile.grid, profile.free_energy, color="#5e81ac", label="reweighted")
    axes.fill_between(
        profile.grid,
        profile.free_energy - profile.error,
        profile.free_energy + profile.error,
        color="#5e81ac",
        alpha=0.3,
        linewidth=0,
    )
    if summed is not None:
        axes.plot(profile.grid, summed, color="#bf616a", linestyle="--", label="sum of hills")
    for place in (barrier.reactant, barrier.top, barrier.product):
        axes.axvline(place, color="k", linewidth=0.6, linestyle=":")
    right = axes.secondary_yaxis(
        "right", functions=(lambda e: e * KILOJOULE_PER_MOLE, lambda e: e / KILOJOULE_PER_MOLE)
    )
    right.set_ylabel("kJ/mol")
    axes.set(xlabel=profile.variable, ylabel="free energy (eV)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
