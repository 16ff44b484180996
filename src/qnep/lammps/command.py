"""The command `qnep md`: molecular dynamics of a structure in LAMMPS."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qnep.lammps.md_input import MDSettings
    from qnep.model import Model


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `qnep md`."""
    parser = subparsers.add_parser(
        "md",
        help="molecular dynamics in LAMMPS",
        description="Write a LAMMPS input for a structure and a model, run it, resume it after a kill. "
        "Times in fs, temperatures in K, pressures in bar.",
    )
    parser.add_argument(
        "structure",
        nargs="?",
        help="structure file (extended XYZ or what ASE reads); its last frame",
    )
    parser.add_argument(
        "models", nargs="*", help="model file; several are a committee whose first drives the run"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("md"), help="folder of the run (default: md)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last restart file in the folder"
    )
    parser.add_argument("--write-only", action="store_true", help="write the input and stop")
    _add_physics(parser)
    _add_output(parser)
    parser.set_defaults(run=run)


def _add_physics(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("physics")
    group.add_argument("--ensemble", choices=("nve", "nvt", "npt"), default="nvt")
    group.add_argument("--temperature", type=float, default=300.0)
    group.add_argument(
        "--final-temperature", type=float, help="heat or cool linearly to this temperature"
    )
    group.add_argument("--pressure", type=float, default=1.0)
    group.add_argument(
        "--anisotropic", action="store_true", help="npt: the three box lengths change independently"
    )
    group.add_argument("--timestep", type=float, default=0.5)
    group.add_argument("--steps", type=int, default=10_000)
    group.add_argument("--seed", type=int, default=1, help="of the start velocities")
    group.add_argument(
        "--keep-velocities", action="store_true", help="start with the velocities of the structure"
    )
    group.add_argument(
        "--slab", type=float, metavar="FACTOR", help="not periodic in z, with slab correction"
    )
    group.add_argument("--charge", type=float, default=0.0, help="total charge, e")
    group.add_argument(
        "--kspace",
        default="pppm 1e-5",
        help="as the keyword of pair_style qnep (default: pppm 1e-5)",
    )
    group.add_argument(
        "--precision",
        choices=("double", "single"),
        default="double",
        help="as the keyword of pair_style qnep; single is faster",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("running and output")
    group.add_argument("--ranks", type=int, default=1, help="MPI ranks")
    group.add_argument("--threads", type=int, default=1, help="threads per rank")
    group.add_argument("--thermo-interval", type=int, default=100)
    group.add_argument("--trajectory-interval", type=int, default=100)
    group.add_argument("--restart-interval", type=int, default=1000)
    group.add_argument(
        "--deviation-interval", type=int, default=0, help="committee: steps between deviations"
    )


def run(options: argparse.Namespace) -> int:
    """Prepare or resume the run, and run it with a progress line; returns the exit status."""
    from qnep.lammps import md_run

    folder = options.folder
    step = None
    if options.resume:
        settings, step = md_run.prepare_resume(folder)
    else:
        settings = _prepare(options)
    name = md_run.INPUT_FILE if step is None else md_run.RESUMED_INPUT_FILE
    if options.write_only:
        print(f"wrote {folder / name}")
        return 0
    if step is not None and step >= settings.n_steps:
        print(f"{folder} is finished: {settings.n_steps} steps")
        return 0
    try:
        _run_with_progress(folder, name, options, settings.n_steps, step or 0)
    except md_run.MDFailure as failure:
        print(f"qnep: error: {failure}", file=sys.stderr)
        return 1
    print(f"trajectory: {folder / md_run.TRAJECTORY_FILE}")
    return 0


def _prepare(options: argparse.Namespace) -> MDSettings:
    from qnep.io import read_frames
    from qnep.lammps.md_input import MDSettings, elements_in_order
    from qnep.lammps.md_run import prepare_folder
    from qnep.model import Model

    if options.structure is None or not options.models:
        raise ValueError("qnep md wants a structure and at least one model, or --resume")
    frames = read_frames(options.structure)
    if not frames:
        raise ValueError(f"{options.structure}: no structure in the file")
    atoms = frames[-1]
    elements = elements_in_order(atoms.get_chemical_symbols())
    for path in options.models:
        _check_elements(elements, Model.read(path), path)
    settings = MDSettings(
        models=tuple(options.models),
        elements=elements,
        ensemble=options.ensemble,
        temperature=options.temperature,
        final_temperature=options.final_temperature,
        pressure=options.pressure,
        is_anisotropic=options.anisotropic,
        timestep=options.timestep,
        n_steps=options.steps,
        thermo_interval=options.thermo_interval,
        trajectory_interval=options.trajectory_interval,
        restart_interval=options.restart_interval,
        deviation_interval=options.deviation_interval,
        seed=options.seed,
        keeps_velocities=options.keep_velocities,
        is_slab=options.slab is not None,
        pair_keywords=_pair_keywords(options),
    )
    prepare_folder(options.folder, atoms, settings)
    return settings


def _check_elements(elements: tuple[str, ...], model: Model, path: str) -> None:
    missing = [symbol for symbol in elements if symbol not in model.elements]
    if missing:
        raise ValueError(
            f"{path}: wanted a model with {' '.join(elements)}, got {' '.join(model.elements)}"
        )


def _pair_keywords(options: argparse.Namespace) -> str:
    words = [f"kspace {options.kspace}"]
    if options.slab is not None:
        words.append(f"slab {options.slab:g}")
    if options.charge:
        words.append(f"charge {options.charge:g}")
    if options.precision != "double":
        words.append(f"precision {options.precision}")
    return " ".join(words)


def _run_with_progress(
    folder: Path, name: str, options: argparse.Namespace, n_steps: int, first: int
) -> None:
    from tqdm import tqdm

    from qnep.lammps.md_run import run_lammps

    with tqdm(total=n_steps, initial=first, unit="step", desc="md") as bar:
        run_lammps(
            folder, name, options.ranks, options.threads, lambda step: bar.update(step - bar.n)
        )
