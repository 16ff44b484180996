"""fix plumed with a PLUMED that runs on all ranks (`mpi yes`), against the same on rank 0.

The kernel of the Python package is compiled without MPI. The environment variable QNEP_TEST_PLUMED_MPI_KERNEL names one
that is linked with the MPI library of the LAMMPS under test.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from lammps_inputs import (
    BIASED_ENERGY,
    DYNAMIC,
    LJ,
    NVE,
    STATIC_BIAS,
    lattice_frame,
    random_frame,
    script,
    uninterrupted_run,
    write_data,
)
from numpy.testing import assert_allclose

pytestmark = pytest.mark.mpi
VARIABLE = "QNEP_TEST_PLUMED_MPI_KERNEL"
ROUNDING = 1e-9  # sums in another order
SHARED = "fix p all plumed plumedfile plumed.dat outfile plumed.log mpi yes"


@pytest.fixture
def mpi_kernel() -> str:
    """Path of a kernel with MPI."""
    path = os.environ.get(VARIABLE)
    if not path:
        pytest.skip(f"no PLUMED kernel with MPI: {VARIABLE} is not set")
    assert Path(path).is_file(), f"{VARIABLE}: no file {path}"
    return path


def results(run):
    """Atoms and forces, thermodynamic output, and PLUMED's files."""
    assert run.status == 0, run.output
    thermo = run.thermo()
    files = [
        np.loadtxt(run.folder / name)
        for name in ("COLVAR", "HILLS")
        if (run.folder / name).exists()
    ]
    for name in ("COLVAR", "HILLS"):
        (run.folder / name).unlink(missing_ok=True)
    return [run.dump(), np.stack([thermo[name] for name in sorted(thermo)]), *files]


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, reference in zip(ours, theirs, strict=True):
        assert_allclose(mine, reference, rtol=ROUNDING, atol=ROUNDING * abs(reference).max())


@pytest.mark.parametrize("bias", [STATIC_BIAS, BIASED_ENERGY], ids=["positions", "energy"])
def test_one_frame(bias, mpi_kernel, tmp_path, run_lammps):
    """Bias, forces, virial: on 1, 2 and 4 ranks as by the serial kernel on rank 0."""
    write_data(tmp_path / "frame.data", lattice_frame())
    (tmp_path / "plumed.dat").write_text(bias)
    expected = results(run_lammps(script(LJ)))
    for ranks in (1, 2, 4):
        run = run_lammps(script(LJ, fix=SHARED), ranks=ranks, PLUMED_KERNEL=mpi_kernel)
        assert_same(results(run), expected)


def test_dynamics_while_atoms_change_their_ranks(mpi_kernel, tmp_path, run_lammps):
    """Metadynamics and a moving restraint in two runs with many new neighbour lists, on 1, 2 and 4 ranks."""
    write_data(tmp_path / "frame.data", lattice_frame())
    (tmp_path / "plumed.dat").write_text(DYNAMIC)
    body = "neighbor 0.1 bin\n" + NVE.replace("60 4711", "600 4711") + "run 40\nrun 40"
    expected = results(run_lammps(script(LJ, body)))
    for ranks in (1, 2, 4):
        run = run_lammps(script(LJ, body, fix=SHARED), ranks=ranks, PLUMED_KERNEL=mpi_kernel)
        assert f"Running over {ranks} node" in (tmp_path / "plumed.log").read_text()
        builds = re.findall(r"Neighbor list builds = (\d+)", run.output)
        assert len(builds) == 2
        assert min(int(number) for number in builds) > 2
        assert_same(results(run), expected)


def test_ranks_without_atoms(mpi_kernel, tmp_path, run_lammps):
    atoms = Atoms("NaF", [[1, 1, 1], [1, 1, 4]], cell=[10, 10, 10], masses=[23, 19])
    write_data(tmp_path / "frame.data", atoms)
    (tmp_path / "plumed.dat").write_text(
        "UNITS LENGTH=A ENERGY=eV\nd: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=2.0 KAPPA=1.0\n"
    )
    body = "fix nve all nve\nrun 10"
    expected = results(run_lammps(script(body=body)))
    divided = script(body=body, fix=SHARED).replace("read_data", "processors 1 1 4\nread_data")
    run = run_lammps(divided, ranks=4, PLUMED_KERNEL=mpi_kernel)
    assert_same(results(run), expected)


def test_restart(mpi_kernel, tmp_path, run_lammps):
    """Half of a run on two ranks, the other half, with the hills of the first, on four."""
    uninterrupted = uninterrupted_run(tmp_path, run_lammps)
    first = script(LJ, NVE + "run 35\nwrite_restart half.restart", fix=SHARED)
    assert run_lammps(first, ranks=2, PLUMED_KERNEL=mpi_kernel).status == 0
    second = script(LJ, "fix nve all nve\nrun 7", fix=SHARED + " restart yes")
    second = second.replace("read_data frame.data", "read_restart half.restart")
    run = run_lammps(second, ranks=4, PLUMED_KERNEL=mpi_kernel)
    assert run.status == 0, run.output
    for name, reference in zip(("COLVAR", "HILLS"), uninterrupted, strict=True):
        continued = np.loadtxt(tmp_path / name)
        if name == "COLVAR":  # the work of a moving restraint counts from the start of each program
            continued, reference = np.delete(continued, 4, axis=1), np.delete(reference, 4, axis=1)
        assert_allclose(continued, reference, rtol=1e-6, atol=1e-6)  # HILLS keep 9 digits


WALKERS = """UNITS LENGTH=A ENERGY=eV TIME=ps
d: DISTANCE ATOMS=1,17
METAD ARG=d PACE=5 HEIGHT=0.02 SIGMA=0.3 FILE=HILLS LABEL=mt WALKERS_MPI
PRINT ARG=d,mt.bias STRIDE=1 FILE=COLVAR FMT=%.12g
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_walkers_in_partitions_share_their_hills(ranks, mpi_kernel, tmp_path, run_lammps):
    """Two walkers of 1 or 2 ranks: each one's bias is the sum of the hills of both, Gaussian by Gaussian."""
    write_data(tmp_path / "frame.data", lattice_frame())
    (tmp_path / "plumed.dat").write_text(WALKERS)
    body = "velocity all create 300 ${seed} loop all\nfix nve all nve\nrun 40"
    text = "variable seed world 11 12\n" + script(LJ, body, fix=SHARED)
    for name in ("plumed.log", "final.dump"):  # each walker its own
        text = text.replace(name, f"${{seed}}.{name}")
    run = run_lammps(
        text,
        ranks=2 * ranks,
        arguments=("-partition", f"2x{ranks}"),
        PLUMED_KERNEL=mpi_kernel,
    )
    assert run.status == 0, run.output
    colvars = [np.loadtxt(tmp_path / f"COLVAR.{walker}") for walker in range(2)]
    period, height, sigma, stride = 40, 0.02, 0.3, 5
    own = [
        colvar[stride : period + 1 : stride, 1] for colvar in colvars
    ]  # where each laid its hills
    assert abs(own[0] - own[1]).max() > 0.1  # different walkers
    centres = np.concatenate(own)
    steps = np.tile(np.arange(stride, period + 1, stride), 2)
    for colvar in colvars:
        laid = steps[None] < np.arange(period + 1)[:, None]  # a hill acts from the next step on
        gaussians = height * np.exp(-((colvar[:, 1, None] - centres) ** 2) / (2 * sigma**2))
        expected = (laid * gaussians).sum(axis=1)
        assert expected[-1] > height  # the walkers feel their hills
        # PLUMED cuts a Gaussian off at 6.25 of its exponent, and shifts and scales it so that it ends at zero.
        assert_allclose(colvar[:, 2], expected, rtol=0, atol=0.004 * height * len(centres))


@pytest.mark.parametrize(
    ("plumed", "expected"),
    [
        ("d: DISTANCE ATOMS=1,2\n\nPRINT ARG=e", ["line 3", "PRINT ARG=e", "named e"]),
        ("d: DISTANSE ATOMS=1,2", ["line 1", "DISTANSE", "without"]),
        ("METAD ...\nARG=d\n", ["line 1", "never closed"]),
    ],
)
def test_errors_end_all_ranks(plumed, expected, mpi_kernel, tmp_path, run_lammps):
    write_data(tmp_path / "frame.data", random_frame(1))
    (tmp_path / "plumed.dat").write_text(plumed)
    run = run_lammps(script(fix=SHARED), ranks=2, PLUMED_KERNEL=mpi_kernel)
    assert run.status != 0
    for part in expected:
        assert part in run.output


def test_rank_0_alone_with_a_kernel_that_knows_mpi(mpi_kernel, tmp_path, run_lammps):
    """`mpi no` (the default) runs such a kernel as a serial one."""
    write_data(tmp_path / "frame.data", lattice_frame())
    (tmp_path / "plumed.dat").write_text(DYNAMIC)
    expected = results(run_lammps(script(LJ, NVE + "run 20")))
    run = run_lammps(script(LJ, NVE + "run 20"), ranks=2, PLUMED_KERNEL=mpi_kernel)
    assert_same(results(run), expected)
