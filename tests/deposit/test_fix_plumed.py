"""fix plumed against ASE's Plumed calculator, PLUMED's driver, closed forms and finite differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.lj import LennardJones
from lammps_inputs import (
    BIASED_ENERGY,
    CELL,
    DYNAMIC,
    LJ,
    N_ATOMS,
    NVE,
    STATIC_BIAS,
    lattice_frame,
    random_frame,
    script,
    uninterrupted_run,
    write_data,
)
from numpy.testing import assert_allclose

from qnep.deposit.ase_plumed import plumed_calculator
from qnep.deposit.kernel import run_plumed_tool

ROUNDING = 1e-8  # relative; what the three routes print with 15 digits and add in another order


@pytest.mark.parametrize("seed", [1, 2])
def test_agrees_with_ase_and_with_the_driver(seed, tmp_path, monkeypatch, run_lammps):
    """One file, one frame, three routes: bias, forces and virial."""
    monkeypatch.chdir(tmp_path)
    atoms = random_frame(seed)
    write_data(tmp_path / "frame.data", atoms)
    (tmp_path / "plumed.dat").write_text(STATIC_BIAS)
    run = run_lammps(script())
    assert run.status == 0, run.output
    forces = run.dump()[:, 4:7]
    thermo = run.thermo()

    atoms.calc = plumed_calculator(
        atoms,
        LennardJones(epsilon=0.0),
        tmp_path / "plumed.dat",
        1.0,
        300.0,
        log=str(tmp_path / "ase.log"),
    )
    atoms.calc.use_charge = True
    assert_allclose(thermo["f_p"], atoms.get_potential_energy(), rtol=ROUNDING)
    assert_allclose(forces, atoms.get_forces(), rtol=ROUNDING, atol=ROUNDING * abs(forces).max())
    pressure = [
        thermo[name][0] * 1e5 * units.Pascal for name in ("Pxx", "Pyy", "Pzz")
    ]  # bar -> eV Å⁻³
    # LAMMPS's constant for eV Å⁻³ in bar has eight digits. Shear: the finite differences below.
    assert_allclose(pressure, -atoms.get_stress()[:3], rtol=1e-6)

    driven = drive(tmp_path / "driver", atoms)
    assert_allclose(driven["bias"], thermo["f_p"][0], rtol=ROUNDING)
    assert_allclose(driven["forces"], forces, rtol=ROUNDING, atol=ROUNDING * abs(forces).max())


def drive(folder: Path, atoms: Atoms) -> dict[str, np.ndarray]:
    """Bias (eV) and its forces (eV/Å) on a frame from `plumed driver`, which sees a file of positions only."""
    folder.mkdir()
    (folder / "plumed.dat").write_text(STATIC_BIAS)
    box = " ".join(f"{number:.17g}" for number in atoms.cell.array.ravel())
    rows = [f"X {x:.17g} {y:.17g} {z:.17g}" for x, y, z in atoms.positions]
    (folder / "frame.xyz").write_text("\n".join([str(len(atoms)), box, *rows]) + "\n")
    constants = zip(atoms.get_masses(), atoms.get_initial_charges(), strict=True)
    (folder / "mc").write_text(
        "#! FIELDS index mass charge\n"
        + "".join(f"{i} {mass:.17g} {charge:.17g}\n" for i, (mass, charge) in enumerate(constants))
    )
    run_plumed_tool(
        "driver",
        "--plumed",
        "plumed.dat",
        "--ixyz",
        "frame.xyz",
        "--length-units",
        "A",
        "--mc",
        "mc",
        "--dump-forces",
        "forces",
        "--dump-forces-fmt",
        "%.15g",
        folder=folder,
    )
    colvar = np.loadtxt(folder / "COLVAR")
    rows = [line.split() for line in (folder / "forces").read_text().splitlines()[2:]]
    kilojoule_per_mole = (
        1 / 96.48530749925792
    )  # eV, with PLUMED's own figure for the eV in the file
    return {
        "bias": colvar[1:].sum(),
        "forces": np.array([[float(word) for word in row[1:4]] for row in rows])
        * kilojoule_per_mole,
    }


PRESSURES = ("Pxy", "Pxz", "Pyz", "Pxx", "Pyy", "Pzz")
PLACES = ((1, 0), (2, 0), (2, 1), (0, 0), (1, 1), (2, 2))  # in the matrix of cell vectors


@pytest.mark.parametrize("bias", [STATIC_BIAS, BIASED_ENERGY], ids=["positions", "energy"])
def test_virial_is_the_derivative_of_the_energy(bias, tmp_path, run_lammps):
    """Central differences of energy with bias over the six parameters of LAMMPS's cell."""
    write_data(tmp_path / "frame.data", lattice_frame())
    (tmp_path / "plumed.dat").write_text(bias)
    step = 1e-4  # Å
    moves = []
    for axis in ("xy", "xz", "yz"):
        moves += [(f"{axis} delta {d}") for d in (step, -2 * step, step)]
    for axis, length in zip("xyz", np.diag(CELL), strict=True):
        moves += [f"{axis} final 0 {length + d:.17g}" for d in (step, -step, 0.0)]
    body = "run 0\n" + "".join(f"change_box all {move} remap units box\nrun 0\n" for move in moves)
    thermo = run_lammps(script(LJ, body)).thermo()
    energy = thermo["PotEng"][1:].reshape(6, 3)
    slopes = (energy[:, 0] - energy[:, 1]) / (2 * step)  # eV/Å
    # The cell vectors are the rows of H, r = s H, so dE/dH = -H^-T W with W = sum of r (x) F. Below the diagonal, where
    # the tilts are, only the part of W below the diagonal counts: a bias on one direction in space has no symmetric W.
    virial = np.zeros((3, 3))
    for name, place in zip(PRESSURES, PLACES, strict=True):
        virial[place] = thermo[name][0] * 1e5 * units.Pascal * np.linalg.det(CELL)
    gradient = -np.linalg.inv(CELL).T @ virial
    expected = np.array([gradient[place] for place in PLACES])
    # second order of the step, 1e-8 of the slope, and 15 digits of the energy: 1e-11 eV / step; eight digits of a unit
    assert_allclose(slopes, expected, rtol=2e-6, atol=2e-6 * abs(expected).max())


@pytest.mark.mpi
def test_energy_bias_forces_are_the_derivative_of_the_energy(tmp_path, run_lammps):
    """On two ranks, so that rank 0 scales forces of atoms that it does not own."""
    write_data(tmp_path / "frame.data", lattice_frame())
    (tmp_path / "plumed.dat").write_text(BIASED_ENERGY)
    step = 1e-4  # Å
    moved = (1, 8, 20)
    body = "run 0\n"
    for atom in moved:
        body += f"group one id {atom}\n"
        for shift in (step, -2 * step, step):
            body += f"displace_atoms one move 0 {shift} 0 units box\nrun 0\n"
        body += "group one delete\n"
    run = run_lammps(script(LJ, body), ranks=2)
    energy = run.thermo()["PotEng"][1:].reshape(len(moved), 3)
    forces = [run.dump()[atom - 1, 5] for atom in moved]
    assert_allclose((energy[:, 1] - energy[:, 0]) / (2 * step), forces, rtol=1e-6, atol=1e-7)


@pytest.mark.mpi
def test_ranks_agree(tmp_path, run_lammps):
    """1, 2 and 4 ranks over 30 steps of a bias that grows: the same to the rounding of other orders of summation."""
    write_data(tmp_path / "frame.data", lattice_frame())
    (tmp_path / "plumed.dat").write_text(DYNAMIC)
    first = None
    for ranks in (1, 2, 4):
        for name in ("COLVAR", "HILLS"):
            (tmp_path / name).unlink(missing_ok=True)
        run = run_lammps(script(LJ, NVE + "run 30"), ranks=ranks)
        assert run.status == 0, run.output
        results = [run.dump(), np.loadtxt(tmp_path / "COLVAR"), np.loadtxt(tmp_path / "HILLS")]
        first = first or results
        for mine, reference in zip(results, first, strict=True):
            assert_allclose(mine, reference, rtol=1e-9, atol=1e-9)


def test_work_is_what_the_total_energy_gains(tmp_path, run_lammps):
    """NVE under a moving restraint and metadynamics: energy with bias grows by exactly the work they report."""
    write_data(tmp_path / "frame.data", lattice_frame())
    (tmp_path / "plumed.dat").write_text(DYNAMIC)
    thermo = run_lammps(script(LJ, NVE + "run 60")).thermo()
    gained = thermo["TotEng"] - thermo["TotEng"][0]
    # METAD adds a hill after the energy of its step was counted, so both lag alike; velocity Verlet errs by 1 % here.
    assert abs(gained[-1]) > 0.05
    assert_allclose(gained[-1], thermo["f_p[2]"][-1], rtol=0.02)


def test_included_files_count(tmp_path, run_lammps):
    """UNITS and a bias in a file that is included: the same work as with one file."""
    write_data(tmp_path / "frame.data", lattice_frame())
    units, rest = DYNAMIC.split("\n", 1)
    works = []
    for text in (DYNAMIC, "INCLUDE FILE=outer.dat\n"):
        (tmp_path / "outer.dat").write_text("INCLUDE FILE=units.dat\n" + rest)
        (tmp_path / "units.dat").write_text(units + "\n")
        (tmp_path / "plumed.dat").write_text(text)
        (tmp_path / "HILLS").unlink(missing_ok=True)
        works.append(run_lammps(script(LJ, NVE + "run 20")).thermo()["f_p[2]"][-1])
    assert abs(works[0]) > 1e-3
    assert works[1] == pytest.approx(works[0], rel=1e-9)


@pytest.mark.parametrize(("order", "warns"), [("before", True), ("after", False)])
def test_energy_and_the_forces_of_another_fix(order, warns, tmp_path, run_lammps):
    """PLUMED's ENERGY holds no energy of a fix, but a bias on it scales the forces that are there already."""
    write_data(tmp_path / "frame.data", lattice_frame())
    (tmp_path / "plumed.dat").write_text(BIASED_ENERGY)
    push = "fix push all addforce 0.1 0 0\n"
    text = script(LJ, "run 0\n")
    place = text.index("fix p ") if order == "before" else text.index("run 0")
    run = run_lammps(text[:place] + push + text[place:])
    assert run.status == 0, run.output
    assert ("fix push addforce adds forces whose energy PLUMED does not see" in run.output) == warns


def test_static_bias_conserves_energy(tmp_path, run_lammps):
    """Drift below 1e-5 eV per atom and ps, the figure a user can rely on for NVE."""
    write_data(tmp_path / "frame.data", lattice_frame())
    (tmp_path / "plumed.dat").write_text(
        "UNITS LENGTH=A ENERGY=eV TIME=ps\nd: DISTANCE ATOMS=1,17\n"
        # ends smoothly within half the cell: where an atom changes its nearest image, nothing may jump
        "c: COORDINATION GROUPA=1-6 GROUPB=7-24 SWITCH={RATIONAL R_0=2.5 D_MAX=4.2}\n"
        "RESTRAINT ARG=d,c AT=3.0,15.0 KAPPA=0.5,0.02\n"
    )
    timestep = 0.0005  # ps
    run = run_lammps(
        script(LJ, NVE + "thermo 50\nrun 2000").replace("timestep 0.001", f"timestep {timestep}")
    )
    thermo = run.thermo()
    drift = np.polyfit(thermo["Step"] * timestep, thermo["TotEng"], 1)[0] / N_ATOMS
    assert abs(drift) < 1e-5


def test_run_after_run_is_one_run(tmp_path, run_lammps):
    """The evaluation that starts a run adds no second hill and prints no second line."""
    write_data(tmp_path / "frame.data", lattice_frame())
    (tmp_path / "plumed.dat").write_text(DYNAMIC)
    files = []
    for body in ("run 42", "run 14\nrun 7\nrun 21"):
        for name in ("COLVAR", "HILLS"):
            (tmp_path / name).unlink(missing_ok=True)
        run_lammps(script(LJ, NVE + body))
        files.append([np.loadtxt(tmp_path / name) for name in ("COLVAR", "HILLS")])
    for one, several in zip(*files, strict=True):
        assert_allclose(several, one, rtol=1e-8, atol=1e-8)


def test_restart_continues_the_bias(tmp_path, run_lammps):
    """A second LAMMPS goes on from a restart file with the hills of the first (keyword restart)."""
    uninterrupted = uninterrupted_run(tmp_path, run_lammps)
    run_lammps(script(LJ, NVE + "run 35\nwrite_restart half.restart"))
    again = script(LJ, "fix nve all nve\nrun 7").replace(
        "read_data frame.data", "read_restart half.restart"
    )
    run = run_lammps(again.replace("outfile plumed.log", "outfile plumed.log restart yes"))
    assert run.status == 0, run.output
    for name, reference in zip(("COLVAR", "HILLS"), uninterrupted, strict=True):
        continued = np.loadtxt(tmp_path / name)
        if (
            name == "COLVAR"
        ):  # PLUMED counts the work of a moving restraint from the start of each program
            continued, reference = np.delete(continued, 4, axis=1), np.delete(reference, 4, axis=1)
        assert_allclose(continued, reference, rtol=1e-6, atol=1e-6)  # HILLS keep 9 digits


def test_open_boundaries_fold_no_distance(tmp_path, run_lammps):
    """Two atoms 8 Å apart in a box of 10 Å without periodic boundaries along z are 8 Å apart, not 2 Å."""
    atoms = Atoms("NaF", [[1, 1, 1], [1, 1, 9]], cell=[10, 10, 10], masses=[23, 19])
    write_data(tmp_path / "frame.data", atoms)
    (tmp_path / "plumed.dat").write_text(
        "UNITS LENGTH=A ENERGY=eV\nd: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=7.0 KAPPA=1.0\n"
    )
    run = run_lammps(script(boundary="p p f"))
    assert run.thermo()["f_p"][0] == pytest.approx(0.5, rel=1e-12)


def test_plumed_can_end_a_run(tmp_path, run_lammps):
    """COMMITTOR stops the run at the step at which its basin is reached, and LAMMPS ends well."""
    write_data(tmp_path / "frame.data", lattice_frame())
    (tmp_path / "plumed.dat").write_text(
        "UNITS LENGTH=A ENERGY=eV TIME=ps\nt: TIME\nCOMMITTOR ARG=t STRIDE=1 BASIN_LL1=0.0195 BASIN_UL1=1.0\n"
    )
    run = run_lammps(script(LJ, NVE + "run 100"))
    assert run.status == 0, run.output
    assert run.thermo()["Step"][-1] == 20


def test_minimization_includes_the_bias(tmp_path, run_lammps):
    """Two free atoms under a harmonic restraint end at its centre."""
    write_data(
        tmp_path / "frame.data",
        Atoms("NaF", [[1, 1, 1], [1, 1, 4]], cell=[10, 10, 10], masses=[23, 19]),
    )
    (tmp_path / "plumed.dat").write_text(
        "UNITS LENGTH=A ENERGY=eV\nd: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=2.2 KAPPA=1.0\n"
    )
    run = run_lammps(script(body="min_modify dmax 0.2\nminimize 0 1e-8 200 400"))
    positions = run.dump()[:, 1:4]
    assert np.linalg.norm(positions[1] - positions[0]) == pytest.approx(2.2, abs=1e-6)


def test_cell_under_pressure_of_a_bias(tmp_path, run_lammps):
    """NPT with a restraint on the volume of a crystal: the conserved quantity stays, the bias acts on the cell."""
    atoms = lattice_frame()
    write_data(tmp_path / "frame.data", atoms)
    (tmp_path / "plumed.dat").write_text(
        "UNITS LENGTH=A ENERGY=eV TIME=ps\nv: VOLUME\nRESTRAINT ARG=v AT=700 KAPPA=0.001 LABEL=r\n"
    )
    body = (
        "velocity all create 60 4711 loop all\n"
        "fix npt all npt temp 60 60 0.1 iso 0 0 1.0\n"
        "thermo_style custom step etotal econserve vol f_p press\nthermo_modify format float %.15g\nrun 500"
    )
    thermo = run_lammps(script(LJ, body)).thermo()
    assert np.ptp(thermo["Volume"]) > 5.0
    # Without the virial of the bias the two would swing alike; what is left is of second order in the time step.
    assert np.ptp(thermo["Econserve"]) < 0.02 * np.ptp(thermo["TotEng"])


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.mpi)])
@pytest.mark.parametrize(
    ("plumed", "expected"),
    [
        (
            "d: DISTANCE ATOMS=1,2\n\nPRINT ARG=e",
            ["line 3", "PRINT ARG=e", "cannot find action named e"],
        ),
        ("d: DISTANSE ATOMS=1,2", ["line 1", "DISTANSE", "without"]),
        ("d: DISTANCE ATOMS=1,25", ["line 1", "25 out of range"]),
        ("METAD ...\nARG=d\n", ["line 1", "never closed"]),
    ],
)
def test_errors_show_the_line_and_the_words_of_plumed(
    ranks, plumed, expected, tmp_path, run_lammps
):
    write_data(tmp_path / "frame.data", random_frame(1))
    (tmp_path / "plumed.dat").write_text(plumed)
    run = run_lammps(script(), ranks=ranks)
    assert run.status != 0
    for part in expected:
        assert part in run.output


@pytest.mark.parametrize(
    ("fix", "expected"),
    [
        ("fix p all plumed outfile x", "plumedfile with a file is missing"),
        ("fix p all plumed plumedfile plumed.dat outfile", "'outfile' has no value"),
        ("fix p all plumed plumedfile plumed.dat color red", "unknown keyword 'color'"),
        ("fix p all plumed plumedfile plumed.dat mpi yes", "is not linked with the MPI library"),
        ("fix p all plumed plumedfile absent.dat", "cannot open the PLUMED file 'absent.dat'"),
        ("group some id 1:3\nfix p some plumed plumedfile plumed.dat", "group must be all"),
        ("delete_atoms group all", "needs between 1 and"),
    ],
)
def test_bad_commands(fix, expected, tmp_path, run_lammps):
    write_data(tmp_path / "frame.data", random_frame(1))
    (tmp_path / "plumed.dat").write_text("d: DISTANCE ATOMS=1,2\n")
    if fix.startswith("delete"):
        fix += " compress no\nfix p all plumed plumedfile plumed.dat"
    run = run_lammps(script(fix=fix))
    assert run.status != 0
    assert expected in run.output


@pytest.mark.mpi
def test_absent_kernel_says_how_to_get_one(tmp_path, run_lammps):
    write_data(tmp_path / "frame.data", random_frame(1))
    (tmp_path / "plumed.dat").write_text("d: DISTANCE ATOMS=1,2\n")
    run = run_lammps(script(), ranks=2, PLUMED_KERNEL="/nowhere/libplumedKernel.so")
    assert run.status != 0
    assert "pip install --no-deps hillclimber" in run.output


def test_lost_number_of_atoms_is_noticed(tmp_path, run_lammps):
    write_data(tmp_path / "frame.data", lattice_frame())
    (tmp_path / "plumed.dat").write_text("d: DISTANCE ATOMS=1,2\n")
    run = run_lammps(script(LJ, "run 1\ngroup out id 24\ndelete_atoms group out\nrun 1"))
    assert run.status != 0
    assert "started with 24 atoms and now there are 23" in run.output


def test_boltzmann_width_of_a_restraint(tmp_path, run_lammps):
    """<(x - x0)^2> = kT / kappa for 24 free atoms in a Langevin bath: closed form."""
    kappa, temperature, centre = 0.5, 300.0, 5.0  # eV Å⁻², K, Å
    atoms = random_frame(1)
    atoms.cell = [10.0, 10.0, 10.0]
    atoms.positions[:, 0] = centre
    atoms.set_masses([20.0] * N_ATOMS)
    write_data(tmp_path / "frame.data", atoms)
    places = [f"p{i}: POSITION ATOM={i} NOPBC" for i in range(1, N_ATOMS + 1)]
    names = ",".join(f"p{i}.x" for i in range(1, N_ATOMS + 1))
    at, springs = (",".join([str(number)] * N_ATOMS) for number in (centre, kappa))
    (tmp_path / "plumed.dat").write_text(
        "\n".join(["UNITS LENGTH=A ENERGY=eV TIME=ps", *places])
        + f"\nRESTRAINT ARG={names} AT={at} KAPPA={springs}\nPRINT ARG={names} STRIDE=20 FILE=COLVAR\n"
    )
    bath = f"fix bath all langevin {temperature} {temperature} 0.1 7\nfix nve all nve\nrun 10000"
    run = run_lammps(
        script(body=f"velocity all create {temperature} 11 loop all\n{bath}").replace(
            "timestep 0.001", "timestep 0.005"
        )
    )
    assert run.status == 0, run.output
    variances = ((np.loadtxt(tmp_path / "COLVAR")[50:, 1:] - centre) ** 2).mean(axis=0)
    expected = units.kB * temperature / kappa
    error = variances.std(ddof=1) / np.sqrt(N_ATOMS)  # the atoms are independent of each other
    assert error < 0.05 * expected
    assert abs(variances.mean() - expected) < 4 * error
