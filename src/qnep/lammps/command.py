"""The command `qnep md`: molecular dynamics of a structure in LAMMPS."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qnep.lammps.md_input import MDSettings, elements_in_order

if TYPE_CHECKING:
    from qnep.model import Model

OPTION_OF_SETTING = {
    "n_steps": "steps",
    "is_anisotropic": "anisotropic",
    "keeps_velocities": "keep-velocities",
}
"""Options of the command line that are not called as their setting is."""


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
        "--resume",
        action="store_true",
        help="go on from the last restart file in the folder, with its settings; a larger --steps extends the run",
    )
    parser.add_argument("--write-only", action="store_true", help="write the input and stop")
    _add_physics(parser)
    _add_output(parser)
    parser.set_defaults(run=run)


def _add_physics(parser: argparse.ArgumentParser) -> None:
    """Add the options of physics; they have no defaults here, so that --resume knows which of them were given."""
    group = parser.add_argument_group("physics")
    group.add_argument("--ensemble", choices=("nve", "nvt", "npt"), help=_with_default("ensemble"))
    group.add_argument("--temperature", type=float, help=_with_default("temperature", "K"))
    group.add_argument(
        "--final-temperature", type=float, help="heat or cool linearly to this temperature"
    )
    group.add_argument("--pressure", type=float, help=_with_default("pressure", "npt: bar"))
    group.add_argument(
        "--anisotropic",
        dest="is_anisotropic",
        action="store_const",
        const=True,
        help="npt: the three box lengths change independently",
    )
    group.add_argument("--timestep", type=float, help=_with_default("timestep", "fs"))
    group.add_argument(
        "--steps",
        dest="n_steps",
        metavar="STEPS",
        type=int,
        help=_with_default("n_steps", "in all"),
    )
    group.add_argument("--seed", type=int, help=_with_default("seed", "of the start velocities"))
    group.add_argument(
        "--keep-velocities",
        dest="keeps_velocities",
        action="store_const",
        const=True,
        help="start with the velocities of the structure",
    )
    group.add_argument(
        "--slab", type=float, metavar="FACTOR", help="not periodic in z, with slab correction"
    )
    group.add_argument("--charge", type=float, help="total charge, e")
    group.add_argument(
        "--kspace",
        help=_with_default("kspace", "as the keyword of pair_style qnep"),
    )
    group.add_argument(
        "--precision",
        choices=("double", "single"),
        help=_with_default("precision", "as the keyword of pair_style qnep; single is faster"),
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("running and output")
    group.add_argument("--ranks", type=int, default=1, help="MPI ranks")
    group.add_argument("--threads", type=int, default=1, help="threads per rank")
    for name, meaning in {
        "thermo_interval": "steps between lines of the log",
        "trajectory_interval": "steps between frames",
        "restart_interval": "steps between restart files",
        "deviation_interval": "committee: steps between deviations; 0: none",
    }.items():
        option = f"--{name.replace('_', '-')}"
        group.add_argument(option, type=int, metavar="STEPS", help=_with_default(name, meaning))


def _with_default(setting: str, meaning: str = "") -> str:
    return f"{meaning} (default: {getattr(MDSettings, setting)})".lstrip()


def run(options: argparse.Namespace) -> int:
    """Prepare or resume the run, and run it with a progress line; returns the exit status."""
    from qnep.lammps import md_run

    folder = options.folder
    settings, step = _resume(options) if options.resume else (_prepare(options), None)
    if step is not None and step >= settings.n_steps:
        print(f"{folder} is finished: {settings.n_steps} steps")
        return 0
    name = md_run.INPUT_FILE if step is None else md_run.RESUMED_INPUT_FILE
    if options.write_only:
        print(f"wrote {folder / name}")
        return 0
    try:
        _run_with_progress(folder, name, options, settings.n_steps, step or 0)
    except md_run.MDFailure as failure:
        print(f"qnep: error: {failure}", file=sys.stderr)
        return 1
    print(f"trajectory: {folder / md_run.TRAJECTORY_FILE}")
    return 0


def _resume(options: argparse.Namespace) -> tuple[MDSettings, int | None]:
    from qnep.lammps.md_run import SETTINGS_FILE, prepare_resume, read_settings

    folder = options.folder
    if options.structure is not None:
        raise ValueError(
            f"--resume takes structure and models from {folder}, leave out "
            f"{' '.join([options.structure, *options.models])}"
        )
    stored = read_settings(folder)
    given = _given_settings(options)
    n_steps = given.pop("n_steps", None)
    for name, value in given.items():
        if value != getattr(stored, name):
            option = OPTION_OF_SETTING.get(name, name.replace("_", "-"))
            raise ValueError(
                f"--{option}: a resumed run keeps its settings, wanted {getattr(stored, name)} as in "
                f"{folder / SETTINGS_FILE}, got {value}"
            )
    return prepare_resume(folder, n_steps)


def _given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that stand in the command line; models are arguments and not among them."""
    names = {field.name for field in fields(MDSettings)} - {"models"}
    return {
        name: value for name, value in vars(options).items() if name in names and value is not None
    }


def _prepare(options: argparse.Namespace) -> MDSettings:
    from qnep.io import read_frames
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
        models=tuple(options.models), elements=elements, **_given_settings(options)
    )
    prepare_folder(options.folder, atoms, settings)
    return settings


def _check_elements(elements: tuple[str, ...], model: Model, path: str) -> None:
    missing = [symbol for symbol in elements if symbol not in model.elements]
    if missing:
        raise ValueError(
            f"{path}: wanted a model with {' '.join(elements)}, got {' '.join(model.elements)}"
        )


def _run_with_progress(
    folder: Path, name: str, options: argparse.Namespace, n_steps: int, first: int
) -> None:
    from tqdm import tqdm

    from qnep.lammps.md_run import run_lammps

    with tqdm(total=n_steps, initial=first, unit="step", desc="md") as bar:
        run_lammps(
            folder, name, options.ranks, options.threads, lambda step: bar.update(step - bar.n)
        )
