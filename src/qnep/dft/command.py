"""The command `qnep label`: frames in, a pool of labels out."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from qnep.dft.backends import backend_settings, list_backends
from qnep.dft.kpoints import format_grid, parse_grid
from qnep.dft.label import Label, Limits
from qnep.dft.labeller import Labeller
from qnep.dft.parsl_config import load_executor
from qnep.dft.pool import Pool, check_test_share, split_files
from qnep.dft.settings import SETTINGS, Settings, parse_value
from qnep.io import check_output, read_frames
from qnep.total_charge import total_charge_in

DEFAULT_BACKEND = "gpaw"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `qnep label`."""
    parser = subparsers.add_parser(
        "label",
        help="label structures with a DFT code",
        description="Label structures with a DFT code and keep the results in a pool on disk. Stop it at any moment; "
        "the same command continues, and nothing is labelled twice. A frame's own kpts (2x2x1), charge (or "
        "total_charge) and n_unpaired in its comment line are honoured.",
    )
    parser.add_argument("frames", nargs="*", type=Path, help="extended XYZ or anything ASE reads")
    names = ", ".join(status.name for status in list_backends())
    parser.add_argument(
        "--backend",
        default=DEFAULT_BACKEND,
        help=f"{names} or module:callable; without this option %(default)s",
    )
    parser.add_argument(
        "--pool", type=Path, default=Path("labels.db"), help="SQLite file, %(default)s"
    )
    parser.add_argument("--jobs", type=int, default=1, help="labels at the same time")
    parser.add_argument("--threads", type=int, default=1, help="threads of one label")
    parser.add_argument("--kpts", type=_grid, help="grid for frames that name none, as 2x2x1")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="changes",
        help="change one setting of the preset of the backend, with a value as in TOML; may be repeated: --set "
        "cutoff_eV=650 --set 'options={maxiter=300}' (options, for the code itself, are added to those of the preset, "
        f"all others replaced). Settings: {', '.join(SETTINGS)}",
    )
    parser.add_argument(
        "--time-limit", type=float, default=7200.0, metavar="S", help="of one label"
    )
    parser.add_argument("--max-force", type=float, default=Limits.force, help="eV/Å")
    parser.add_argument(
        "--max-net-force", type=float, default=Limits.net_force, help="eV/Å, whole cell"
    )
    parser.add_argument(
        "--parsl", metavar="FILE.py:NAME", help="run on a cluster by this configuration"
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="try frames set aside once more"
    )
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FILE",
        help="write all accepted frames here when done: extended XYZ, also FILE.xyz.gz",
    )
    parser.add_argument(
        "--export-split",
        type=Path,
        metavar="FOLDER",
        help="write train.extxyz.gz and test.extxyz.gz, whole trajectories in one of them: a hash of trajectory= of a "
        "frame, or else of its config_type=, decides, so the side never changes; an empty side is an error",
    )
    parser.add_argument(
        "--test-share",
        type=float,
        default=0.15,
        help="of the trajectories, as far as there are many, %(default)s",
    )
    parser.add_argument(
        "--adopt",
        type=Path,
        metavar="LABELLED",
        help="take labels that were made before from a file; each frame has energy, forces and, in its comment line, "
        'the level of theory and the k-points of its label: level="PBE-D3BJ PW500 GPAW 26.7" kpts=2x2x1',
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Label; the status is 1 where frames had to be set aside."""
    if not (options.frames or options.adopt or options.pool.exists()):
        raise FileNotFoundError(f"there is no pool {options.pool}")
    _check_outputs(options)  # before hours go into labels
    settings = _settings(options)
    pool = Pool(options.pool)
    if options.adopt:
        print(f"{adopt(pool, options.adopt)} labels taken from {options.adopt}")
    if options.retry_failed:
        with pool:
            print(f"{pool.forget_failures()} frames will be tried again")
    n_failed = _label(pool, settings, options) if options.frames else 0
    if options.export:
        print(f"{pool.export(options.export)} frames written to {options.export}")
    if options.export_split:
        n_train, n_test = pool.export_split(options.export_split, options.test_share)
        print(f"{n_train} train and {n_test} test frames written to {options.export_split}")
    return 1 if n_failed else 0


def _check_outputs(options: argparse.Namespace) -> None:
    """Raise ValueError if what shall be written cannot be, or would take the place of what is read."""
    outputs = []
    if options.export:
        check_output(options.export)
        outputs.append(options.export)
    if options.export_split:
        check_test_share(options.test_share)
        outputs += split_files(options.export_split)
    for source in [*options.frames, *([options.adopt] if options.adopt else []), options.pool]:
        for output in outputs:
            if output.exists() and source.exists() and output.samefile(source):
                raise ValueError(
                    f"{output}: is read, so the export cannot take its place; give another name"
                )


def adopt(pool: Pool, path: Path) -> int:
    """Put labelled frames of a file into the pool, as they are; returns how many were new.

    Raises
    ------
    ValueError : a file without frames; a frame without energy, forces, level of theory or k-points in its comment line,
        with numbers that are not finite, with k-points that cannot be read, or with two charges that differ. Then none
        of the file is taken.
    """
    frames = _some_frames(path)
    labels = [_label_in_file(atoms, f"frame {k} of {path}") for k, atoms in enumerate(frames)]
    with pool:
        return sum(pool.add_label(atoms, label) for atoms, label in zip(frames, labels))


def _label(pool: Pool, settings: Settings, options: argparse.Namespace) -> int:
    frames = [atoms for path in options.frames for atoms in _some_frames(path)]
    # Without Parsl the labeller starts its own workers, and ends them when it is interrupted.
    with load_executor(options.parsl) if options.parsl else nullcontext() as executor:
        labeller = Labeller(
            pool,
            options.backend,
            settings,
            executor=executor,
            n_jobs=options.jobs,
            limits=Limits(options.max_net_force, options.max_force),
            time_limit_s=options.time_limit,
            n_threads=options.threads,
            show_progress=True,
        )
        summary = labeller.run(frames)
    print(f"{summary}; pool {options.pool}: {len(pool)} labels, {pool.cpu_hours():.2f} CPU h")
    for reason in summary.reasons:
        print(f"  set aside: {reason}")
    if summary.n_set_aside_before:
        print(
            f"  set aside by earlier runs: {summary.n_set_aside_before}; --retry-failed tries them again"
        )
    return summary.n_failed + summary.n_set_aside_before


def _some_frames(path: Path) -> list[Atoms]:
    frames = read_frames(path)
    if not frames:
        raise ValueError(f"{path} holds no frames")
    return frames


def _settings(options: argparse.Namespace) -> Settings:
    changes: dict[str, Any] = {}
    for text in options.changes:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set takes NAME=VALUE, got {text!r}")
        changes[name] = parse_value(value)
    if options.kpts:
        changes["kpts"] = options.kpts
    return backend_settings(options.backend, **changes)


def _grid(text: str) -> tuple[int, int, int]:
    """As `parse_grid`, for argparse, which hides the text of a ValueError."""
    try:
        return parse_grid(text)
    except ValueError as failure:
        raise argparse.ArgumentTypeError(str(failure)) from None


def _label_in_file(atoms: Atoms, where: str) -> Label:
    results = atoms.calc.results if atoms.calc else {}
    missing = [name for name in ("energy", "forces") if name not in results]
    missing += [name for name in ("level", "kpts") if name not in atoms.info]
    if missing:
        raise ValueError(f"{where} has no {', '.join(missing)}{_how_to_give(missing)}")
    for name in ("energy", "forces", "stress"):
        if name in results and not np.isfinite(results[name]).all():
            raise ValueError(f"{where}: {name} is not finite")
    try:
        total_charge_in(atoms.info)
        kpts = format_grid(parse_grid(str(atoms.info["kpts"])))
    except ValueError as failure:
        raise ValueError(f"{where}: {failure}") from failure
    net_force = atoms.info.get("net_force_removed", np.zeros(3))
    return Label(
        energy=float(results["energy"]),
        forces=np.asarray(results["forces"]),
        stress=results.get("stress"),
        level=str(atoms.info["level"]),
        kpts=kpts,
        details={
            "net_force_removed": np.asarray(net_force).tolist(),
            "cpu_s": float(atoms.info.get("cpu_s", 0.0)),
            "adopted_from": where,
        },
    )


def _how_to_give(missing: list[str]) -> str:
    """A sentence for labels whose file does not say how they were made, which nothing else can know."""
    words = {"level": 'level="PBE-D3BJ PW500 GPAW 26.7"', "kpts": "kpts=2x2x1"}
    wanted = " ".join(words[name] for name in missing if name in words)
    if not wanted:
        return ""
    return (
        f"; write what the labels were made with into the comment line of each frame, as {wanted} (files of --export "
        "have it)"
    )
