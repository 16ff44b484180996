"""`qnep barrier`: free-energy profile along a collective variable, with error bars."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from qnep._optional import require
from qnep.deposit.barrier import BarrierRun, find_columns
from qnep.deposit.command import (
    KnownDefaultsFormatter,
    add_force_field_options,
    force_field_of,
    require_same_protocol,
)
from qnep.deposit.dynamics import Dynamics
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

DEFAULTS = Dynamics()
N_WALKERS, N_PIECES = 1, 10
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
    parser.add_argument("--walkers", type=int, default=N_WALKERS, help="that share their hills")
    parser.add_argument("--time-ps", type=float, default=100.0, help="of each walker, ps")
    parser.add_argument(
        "--pieces", type=int, default=N_PIECES, help="in which the run can be taken up again"
    )
    parser.add_argument(
        "--production",
        type=float,
        default=0.5,
        help="part of the run, at its end, that adds no more hills and makes the profile; 0: the whole run does",
    )
    for name, meaning in {
        "temperature": "of the run, K",
        "timestep_fs": "of the dynamics, fs",
        "damping_ps": "relaxation time of the Langevin bath, ps",
        "dump_ps": "time between frames of the trajectory, ps",
    }.items():
        default = getattr(DEFAULTS, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=float, default=default, help=meaning
        )
    parser.add_argument("--seed", type=int, default=DEFAULTS.seed, help="of all random numbers")
    parser.add_argument(
        "--frozen", default="none", help="atoms that stay where they are, as indices=0-63"
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


def _finished_files(
    options: argparse.Namespace,
) -> tuple[list[Path], list[Path], Path, float, float]:
    """COLVAR and HILLS files, the PLUMED file that made them, the temperature (K), and from when they count (ps)."""
    if options.colvar:
        if options.plumed is None:
            raise ValueError("--colvar needs the --plumed file that made it")
        options.folder.mkdir(parents=True, exist_ok=True)
        return options.colvar, options.hills or [], options.plumed, options.temperature, 0.0
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


def _resume(options: argparse.Namespace) -> BarrierRun:
    barrier_run = BarrierRun(options.folder)
    state = barrier_run.state
    counts = {name: state[name] for name in ("walkers", "pieces")}
    defaults = vars(DEFAULTS) | {"walkers": N_WALKERS, "pieces": N_PIECES}
    require_same_protocol(options, defaults, state["dynamics"] | counts)
    return barrier_run


def _start(options: argparse.Namespace) -> BarrierRun:
    if options.structure is None or options.plumed is None:
        raise ValueError("name a structure and a --plumed file, or --resume, or --colvar files")
    atoms = read_last_frame(options.structure)
    names = [field.name for field in fields(Dynamics) if field.name != "frozen"]
    values = {name: getattr(options, name) for name in names}
    frozen = tuple(np.flatnonzero(select(atoms, options.frozen, 2)).tolist())
    dynamics = Dynamics(**values, frozen=frozen)
    return BarrierRun.start(
        options.folder,
        Frame.from_atoms(atoms, dynamics.temperature, dynamics.seed),
        options.plumed,
        force_field_of(options, sorted(set(atoms.get_chemical_symbols()))),
        dynamics,
        LammpsProgram.find(options.lammps),
        options.walkers,
        options.pieces,
        options.time_ps,
        options.production,
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
