"""The command `qnep md`: molecular dynamics of a structure in LAMMPS."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qnep.lammps.md_input import MDSettings, elements_in_order
from qnep.lammps.resumed_settings import given_settings, option_of, require_kept, with_default

if TYPE_CHECKING:
    from ase import Atoms

    from qnep.model import Model

OPTION_OF_SETTING = {
    "n_steps": "--steps",
    "is_anisotropic": "--anisotropic",
    "keeps_velocities": "--keep-velocities",
}
"""Options of the command line that are not called as their setting is."""

ENSEMBLES_OF_SETTING = {
    "final_temperature": ("nvt", "npt"),
    "pressure": ("npt",),
    "is_anisotropic": ("npt",),
}
"""Settings that say something in these ensembles only."""

Preparation = Callable[[], tuple[MDSettings, "int | None"]]
"""Writes the input of a run into a folder that is locked; returns the settings and the step to go on from."""


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
        "--slab",
        type=float,
        metavar="FACTOR",
        help="not periodic in z, with slab correction; atoms at the faces are moved into the middle of the cell",
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
    return with_default(meaning, getattr(MDSettings, setting))


def run(options: argparse.Namespace) -> int:
    """Prepare or resume the run, and run it with a progress line; returns the exit status."""
    from qnep.lammps import md_run

    for name in ("ranks", "threads"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name}: wanted at least 1, got {getattr(options, name)}")
    prepare = _resume(options) if options.resume else _begin(options)
    with md_run.locked(options.folder) as lock:
        return _prepare_and_run(prepare, options, lock)


def _prepare_and_run(prepare: Preparation, options: argparse.Namespace, lock: int) -> int:
    from qnep.lammps import md_run

    folder = options.folder
    settings, step = prepare()
    if step is not None and md_run.is_finished(folder, settings, step):
        print(f"{folder} is finished: {settings.n_steps} steps")
        return 0
    name = md_run.INPUT_FILE if step is None else md_run.RESUMED_INPUT_FILE
    if options.write_only:
        print(f"wrote {folder / name}")
        return 0
    try:
        _run_with_progress(name, options, settings.n_steps, step or 0, lock)
    except md_run.MDFailure as failure:
        print(f"qnep: error: {failure}", file=sys.stderr)
        return 1
    print(f"trajectory: {folder / md_run.TRAJECTORY_FILE}")
    return 0


def _resume(options: argparse.Namespace) -> Preparation:
    """Check the options of a run that goes on."""
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
    require_kept(given, vars(stored), folder / SETTINGS_FILE, OPTION_OF_SETTING)
    _check_ensemble(given, stored.ensemble)
    return lambda: prepare_resume(folder, n_steps)


def _given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that stand in the command line; models are arguments and not among them."""
    return given_settings(options, {field.name for field in fields(MDSettings)} - {"models"})


def _check_ensemble(given: Mapping[str, Any], ensemble: str) -> None:
    """Refuse options that the ensemble would leave without an effect, also where they repeat the default."""
    for name, ensembles in ENSEMBLES_OF_SETTING.items():
        if name in given and ensemble not in ensembles:
            raise ValueError(
                f"{option_of(name, OPTION_OF_SETTING)}: wanted --ensemble {' or '.join(ensembles)}, got {ensemble}: "
                "leave the option out or take such an ensemble"
            )


def _begin(options: argparse.Namespace) -> Preparation:
    """Check the options of a new run, and its folder: where something is wrong nothing is written."""
    from qnep.io import read_frames
    from qnep.lammps.md_run import check_folder, prepare_folder
    from qnep.model import Model

    if options.structure is None or not options.models:
        raise ValueError("qnep md wants a structure and at least one model, or --resume")
    frames = read_frames(options.structure)
    if not frames:
        raise ValueError(f"{options.structure}: no structure in the file")
    atoms = frames[-1]
    elements = elements_in_order(atoms.get_chemical_symbols())
    models = [Model.read(path) for path in options.models]
    for path, model in zip(options.models, models):
        _check_elements(elements, model, path)
    given = _given_settings(options)
    settings = MDSettings(
        models=tuple(options.models),
        elements=elements,
        frozen=_fixed_atoms(atoms, options.structure),
        has_free_energy_model=any(model.has_temperature for model in models),
        **given,
    )
    _check_ensemble(given, settings.ensemble)
    _check_charge(settings.charge, models, options.models)
    _check_cell(atoms, settings, options.structure)
    _check_velocities(atoms, settings, options.structure)
    if settings.is_slab:
        atoms = _off_open_faces(atoms, options.structure)
    check_folder(options.folder, settings)

    def prepare() -> tuple[MDSettings, None]:
        prepare_folder(options.folder, atoms, settings)
        return settings, None

    return prepare


def _fixed_atoms(atoms: Atoms, path: str) -> tuple[str, ...]:
    from qnep.lammps.md_structure import fixed_atoms

    try:
        return fixed_atoms(atoms)
    except ValueError as failure:
        raise ValueError(f"{path}: {failure}") from failure


def _off_open_faces(atoms: Atoms, path: str) -> Atoms:
    from qnep.lammps.md_structure import off_open_faces

    try:
        atoms, shift = off_open_faces(atoms)
    except ValueError as failure:
        raise ValueError(f"{path}: {failure}") from failure
    if shift:
        print(f"moved all atoms by {shift:+.3f} Å along z, away from the open faces of the cell")
    return atoms


def _check_velocities(atoms: Atoms, settings: MDSettings, path: str) -> None:
    if settings.keeps_velocities and not atoms.get_momenta().any():
        raise ValueError(
            f"--keep-velocities: {path} has no velocities (momenta, as ASE writes them): leave the option out to draw "
            "them at --temperature, or take a structure that has them"
        )


def _check_charge(charge: float, models: Sequence[Model], paths: Sequence[str]) -> None:
    if charge and not any(model.charge_mode for model in models):
        raise ValueError(
            f"--charge: wanted a model with charges, got {charge:g} e for {' '.join(paths)} without any"
        )


def _check_elements(elements: tuple[str, ...], model: Model, path: str) -> None:
    missing = [symbol for symbol in elements if symbol not in model.elements]
    if missing:
        raise ValueError(
            f"{path}: wanted a model with {' '.join(elements)}, got {' '.join(model.elements)}"
        )


def _check_cell(atoms: Atoms, settings: MDSettings, path: str) -> None:
    """Refuse a structure that would run with other periodic directions than it has."""
    pbc = tuple(map(bool, atoms.pbc))
    wanted = (True, True, not settings.is_slab)
    # Rounding of a flat cell is not a volume.
    has_volume = abs(atoms.cell.volume) > 1e-6 * max(atoms.cell.lengths()) ** 3
    if pbc == wanted and has_volume:
        return
    remedy = "give it one and set its pbc in the file"
    if pbc == (True, True, False) and has_volume:
        remedy = "run it with --slab, or set pbc in the file where it is periodic"
    elif settings.is_slab and pbc == (True, True, True):
        remedy = "set pbc in the file where it is not periodic in z, or leave out --slab"
    elif has_volume:
        remedy = "set pbc in the file, after adding vacuum where it is not periodic"
    raise ValueError(
        f"{path}: wanted a cell that has a volume and is periodic in {'x and y' if settings.is_slab else 'x, y and z'}"
        f"{', and not in z (--slab)' if settings.is_slab else ''}, got pbc {_letters(pbc)} and a volume of "
        f"{atoms.cell.volume:g} Å³: {remedy}"
    )


def _letters(pbc: tuple[bool, ...]) -> str:
    """As in an extended XYZ file."""
    return " ".join("FT"[is_periodic] for is_periodic in pbc)


def _run_with_progress(
    name: str, options: argparse.Namespace, n_steps: int, first: int, lock: int
) -> None:
    from tqdm import tqdm

    from qnep.lammps.md_run import run_lammps

    with tqdm(total=n_steps, initial=first, unit="step", desc="md") as bar:
        run_lammps(
            options.folder,
            name,
            options.ranks,
            options.threads,
            lambda step: bar.update(step - bar.n),
            lock,
        )
