"""One LAMMPS with KOKKOS, in which the host style and the Kokkos style are compared."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kokkos_build import KokkosBuild, find_build

from lammps_runs import LammpsRun, run_to_end

TIME_LIMIT = 900  # s; a run takes one or two, on a machine that is busy otherwise a hundred
TIME_LIMIT_ON_A_DEVICE = (
    200  # s; a call there may end after ten minutes, and a hang must not take all
)


@pytest.fixture(scope="session")
def kokkos_build() -> KokkosBuild:
    """The LAMMPS of this session."""
    return find_build()


@pytest.fixture
def run(kokkos_build: KokkosBuild, tmp_path: Path) -> Callable[..., LammpsRun]:
    """Run a script with the host style or with the Kokkos style; none is left behind."""
    from qnep.lammps.mpi import mpi_launcher

    def run(
        script: str,
        kokkos: bool = True,
        n_ranks: int = 1,
        options: list[str] | None = None,
        launcher: list[str] | None = None,
    ) -> LammpsRun:
        (tmp_path / "in.test").write_text(script)
        command = [kokkos_build.lmp, "-in", "in.test", "-log", "none"]
        if options is not None:
            command += options
        elif kokkos:
            command += kokkos_build.options
        if n_ranks > 1:
            command = [mpi_launcher(), "-n", str(n_ranks), *command]
        command = [*(launcher or []), *command]
        environment = {
            "LAMMPS_PLUGIN_PATH": kokkos_build.plugins,
            # What both styles leave to the core is summed in the order of its threads: the same number for both.
            "OMP_NUM_THREADS": str(kokkos_build.n_threads),
            "OMP_PROC_BIND": "false",
            # Threads that spin at each of many barriers take hours on a machine that is busy otherwise.
            "OMP_WAIT_POLICY": "passive",
        }
        limit = TIME_LIMIT_ON_A_DEVICE if kokkos_build.has_device else TIME_LIMIT
        status, screen = run_to_end(command, tmp_path, environment, limit)
        return LammpsRun(status, screen, tmp_path)

    return run


EVALUATION = """
{before}
units {units}
atom_style charge
boundary {boundary}
newton on
read_data system.data
pair_style {style}
pair_coeff * * {coefficients}
compute energies all pe/atom
compute virials all stress/atom NULL virial
compute centroid all centroid/stress/atom NULL virial
compute virial all pressure NULL virial
thermo_style custom step pe c_virial[1]
dump atoms all custom 1 atoms.dump id fx fy fz q c_energies c_virials[*] c_centroid[*]
dump_modify atoms sort id format float %.17g
run 0
print "STYLE: {style}"
print "ENERGY: $(pe:%.17g)"
print "VIRIAL: $(c_virial[1]:%.17g) $(c_virial[2]:%.17g) $(c_virial[3]:%.17g) &
$(c_virial[4]:%.17g) $(c_virial[5]:%.17g) $(c_virial[6]:%.17g)"
"""


@pytest.fixture
def evaluate(run: Callable[..., LammpsRun]) -> Callable[..., dict]:
    """One force evaluation of system.data; energies and forces in units of LAMMPS, virials in its pressure units."""

    def evaluate(
        style: str,
        coefficients: str,
        kokkos: bool = True,
        n_ranks: int = 1,
        units: str = "metal",
        boundary: str = "p p p",
        before: str = "",
    ) -> dict:
        script = EVALUATION.format(
            style=style, coefficients=coefficients, units=units, boundary=boundary, before=before
        )
        done = run(script, kokkos, n_ranks)
        assert done.status == 0, done.screen
        rows = done.table()
        return {
            "energy": done.value("ENERGY"),
            "virial": done.value("VIRIAL"),
            "forces": rows[:, 0:3],
            "charges": rows[:, 3],
            "energies": rows[:, 4],
            "stresses": rows[:, 5:11],
            "centroid": rows[:, 11:20],
            "screen": done.screen,
        }

    return evaluate
