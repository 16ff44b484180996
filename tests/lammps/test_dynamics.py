"""What engines do with a pair style: conserve, restart, rerun, change the box, the atoms and the number of atoms."""

from __future__ import annotations

import re

import numpy as np
import pytest
from lammps_scripts import BAR_PER_EV, write_data

from lammps_runs import skip_without
from qnep import random_model

ELEMENTS = "Na C O"
START = """
units metal
atom_style charge
boundary {boundary}
{before}
read_data system.data
pair_style {style}
pair_coeff * * {coefficients}
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
timestep 0.0005
thermo_modify norm no
"""
STYLE = "qnep kspace direct"
MESH = "qnep kspace pppm 1e-5"


@pytest.fixture
def start(tmp_path, random_electrolyte):
    """The head of a script for 60 atoms whose forces are moderate."""
    random_model(
        ELEMENTS,
        charge_mode=2,
        radial_cutoff=4.5,
        angular_cutoff=3.5,
        n_max=(2, 2),
        n_neurons=10,
        zbl=(1.0, 2.0),
        energy_scale=0.1,
        charge_scale=0.2,
        seed=5,
    ).write(str(tmp_path / "nep.txt"))

    def head(
        style: str = STYLE,
        coefficients: str = f"nep.txt {ELEMENTS}",
        before: str = "",
        boundary: str = "p p p",
        n_atoms: int = 60,
        tilt: float = 0.0,
    ) -> str:
        atoms = random_electrolyte(n_atoms, lengths=(11.0, 11.0, 12.0), tilt=tilt)
        write_data(tmp_path / "system.data", atoms, ELEMENTS)
        return START.format(
            style=style, coefficients=coefficients, before=before, boundary=boundary
        )

    return head


@pytest.mark.parametrize("style", [STYLE, "qnep kspace pppm 1e-7"])
def test_energy_is_conserved(style, start, run_lammps):
    """Relaxed atoms at 600 K for 50 fs, with forces that are the gradient of the energy and with some that are not.

    What velocity Verlet moves is a series in the square of the time step, if the forces are the gradient. So
    extrapolation from two steps to none leaves next to nothing of it, and shows all of what other errors move.
    """
    begin = (
        start(style)
        + "minimize 0 1e-2 20 30\nreset_timestep 0\nvelocity all create 600 3 mom yes\n"
    )
    run = run_lammps(begin + "write_restart relaxed.restart\n")
    assert run.status == 0, run.screen

    def energies(keywords: str, divisor: int) -> np.ndarray:
        """Change of the total energy in eV/atom at 21 times, with 1 / divisor of 0.5 fs."""
        run = run_lammps(
            f"""
read_restart relaxed.restart
pair_style {style} {keywords}
pair_coeff * * nep.txt {ELEMENTS}
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
timestep {0.0005 / divisor}
fix 1 all nve
thermo_style custom step etotal
thermo_modify format float %.15g norm no
thermo {5 * divisor}
run {100 * divisor}
"""
        )
        assert run.status == 0, run.screen
        table = run.thermo()
        return (table[:, 1] - table[0, 1]) / 60

    def unexplained(keywords: str) -> float:
        extrapolated = (4.0 * energies(keywords, 4) - energies(keywords, 2)) / 3.0
        return np.abs(extrapolated).max()

    # 1e-5 eV/atom/ps, the drift that 20 ps may have, over 0.05 ps; the swing at 0.5 fs is 6e-6 eV/atom
    assert unexplained("") < 5e-7
    assert unexplained("mean_correction no") > 1e-5


@pytest.mark.mpi
def test_momentum_is_conserved(start, run_lammps):
    """On two ranks; the mesh pulls the whole system, which the style takes out."""
    run = run_lammps(
        start("qnep kspace pppm 1e-3")
        + """
velocity all create 300 3 mom yes
fix 1 all nve
variable px equal vcm(all,x)
variable pz equal vcm(all,z)
thermo_style custom step v_px v_pz
thermo_modify format float %.12g
thermo 5
run 20
""",
        n_ranks=2,
    )
    assert run.status == 0, run.screen
    assert np.abs(run.thermo()[:, 1:]).max() < 1e-10


def test_energy_runs_without_the_mean_correction(start, run_lammps):
    """The forces without it are not the gradient: they differ from those with it, the energy does not."""
    with_it = run_lammps(
        start() + "run 0\ndump d all custom 1 atoms.dump id fx fy fz\nrun 0\n"
    ).table()
    without = run_lammps(
        start(STYLE + " mean_correction no") + "dump d all custom 1 atoms.dump id fx fy fz\nrun 0\n"
    ).table()
    assert np.abs(with_it - without).max() > 1e-3


def test_forces_are_the_gradient_of_the_energy(start, run_lammps):
    """LAMMPS's own finite differences (fix numdiff); truncation of the differences at 1e-4 Å is 1e-7 eV/Å."""
    run = run_lammps(
        start("qnep kspace pppm 1e-8", n_atoms=12, before="atom_modify map yes")
        + """
fix numeric all numdiff 1 1e-4
variable error atom "sqrt((fx-f_numeric[1])^2 + (fy-f_numeric[2])^2 + (fz-f_numeric[3])^2)"
compute error all reduce max v_error
thermo_style custom step pe c_error
run 0
print "ERROR_OF_FORCES: $(c_error:%.10g)"
"""
    )
    assert run.status == 0, run.screen
    assert run.value("ERROR_OF_FORCES")[0] < 5e-6


def test_pressure_is_the_strain_derivative_of_the_energy(start, run_lammps):
    """Virial from the energies of two boxes strained by 1e-4, with the same mesh."""
    script = start("qnep kspace pppm 1e-7 mesh 24 24 24") + "compute p all pressure NULL virial\n"
    script += "thermo_style custom step pe c_p[1] vol\nrun 0\n"
    script += 'print "PRESSURE: $(c_p[1]:%.15g) $(vol:%.15g)"\n'
    for sign in ("1.0001", "0.9998"):
        script += f'change_box all x scale {sign} remap\nrun 0\nprint "ENERGY{sign}: $(pe:%.15g) $(lx:%.15g)"\n'
    run = run_lammps(script)
    assert run.status == 0, run.screen
    pressure, volume = run.value("PRESSURE")
    energy_long, length_long = run.value("ENERGY1.0001")
    energy_short, length_short = run.value("ENERGY0.9998")
    mean_length = 0.5 * (length_long + length_short)
    virial = -(energy_long - energy_short) / (length_long - length_short) * mean_length
    assert pressure * volume / BAR_PER_EV == pytest.approx(virial, rel=2e-3, abs=2e-3)


def test_restart_continues_the_trajectory(start, run_lammps, tmp_path):
    """Ten steps, restart, ten more: the same as twenty. The potential is named again, as for every file-based style."""
    begin = "velocity all create 300 3\n"
    move = "fix 1 all nve\ndump d all custom 10 atoms.dump id x y z q\ndump_modify d sort id format float %.17g\n"
    whole = run_lammps(start() + begin + move + "run 10\nrun 10\n").table()
    run = run_lammps(start() + begin + move + "run 10\nwrite_restart half.restart\n")
    assert run.status == 0, run.screen
    again = f"read_restart half.restart\npair_style {STYLE}\npair_coeff * * nep.txt {ELEMENTS}\nneighbor 1.0 bin\n"
    resumed = run_lammps(again + "timestep 0.0005\n" + move + "run 10\n")
    assert resumed.status == 0, resumed.screen
    # the mesh is chosen for the same charges, the sums run over atoms in another order
    np.testing.assert_allclose(resumed.table(), whole, atol=1e-8)


@pytest.mark.mpi
def test_rerun_gives_the_energies_of_the_run(start, run_lammps):
    head = start()
    run = run_lammps(
        head + "velocity all create 300 3\nfix 1 all nve\nthermo 5\nthermo_style custom step pe\n"
        "thermo_modify format float %.12g\ndump d all custom 5 t.dump id type x y z\n"
        "dump_modify d format float %.15g\nrun 20\n"
    )
    again = run_lammps(
        head
        + "thermo 5\nthermo_style custom step pe\nthermo_modify format float %.12g\nrerun t.dump dump x y z\n",
        n_ranks=2,
    )
    assert again.status == 0, again.screen
    np.testing.assert_allclose(again.thermo(), run.thermo(), rtol=1e-8)


@pytest.mark.mpi
@pytest.mark.parametrize("tilt", [0.0, 2.0])
def test_constant_pressure_in_boxes_of_both_kinds(tilt, start, run_lammps):
    """A box that shrinks by more than 10 %, when the mesh is chosen anew; energies stay those of a fresh run."""
    shape = "tri" if tilt else "aniso"
    run = run_lammps(
        start(MESH, tilt=tilt, n_atoms=40)
        + f"""
velocity all create 300 3
fix 1 all npt temp 300 300 0.05 {shape} 500000 500000 0.02
run 60
run 0
write_data final.data
print "VOLUME: $(vol:%.10g)"
print "ENERGY: $(pe:%.12g)"
""",
        n_ranks=2,
    )
    assert run.status == 0, run.screen
    assert "Lost atoms" not in run.screen
    # A mesh on a device says so in its heading.
    assert len(re.findall("PPPM (?:Kokkos )?initialization", run.screen)) > 2
    fresh = f"units metal\natom_style charge\nread_data final.data\npair_style {MESH}\n"
    fresh += f'pair_coeff * * nep.txt {ELEMENTS}\nrun 0\nprint "ENERGY: $(pe:%.12g)"\n'
    energy = run_lammps(fresh).value("ENERGY")[0]
    assert run.value("ENERGY")[0] == pytest.approx(energy, abs=1e-4)


CHANGES_OF_THE_NUMBER = {
    "deposit": "fix 2 all deposit 3 1 5 4928 region space near 1.2 attempt 500 vz -0.1 0.0\nrun 16\n",
    "evaporate": "group light type 2 3\nregion top block 0 11 0 11 6 12\nfix 2 light evaporate 5 2 top 38277\nrun 12\n",
    "delete": "run 5\nregion hole sphere 5 5 5 3\ngroup taken region hole\ndelete_atoms group taken\n",
    "create": "run 5\ncreate_atoms 2 random 4 918 space overlap 1.3 maxtry 1000\n",
    "gcmc": "group single type 1\nfix 2 single gcmc 2 5 0 1 29494 2000 -5 0.2 overlap_cutoff 1.3\nrun 6\n",
}


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("change", "kspace"),
    [(change, "direct") for change in CHANGES_OF_THE_NUMBER]
    + [("gcmc", "pppm 1e-6"), ("delete", "pppm 1e-6")],
)
def test_atoms_come_and_go(change, kspace, start, run_lammps):
    """The charges stay neutral, and the energy is that of a run which begins with the atoms that are left."""
    style = f"qnep kspace {kspace}"
    run = run_lammps(
        start(style)
        + "region space block 0 11 0 11 0 12\nvelocity all create 300 3\nfix 1 all nve/limit 0.05\n"
        + "compute charges all property/atom q\ncompute total all reduce sum c_charges\n"
        + "thermo_style custom step atoms pe c_total\n"
        + CHANGES_OF_THE_NUMBER[change]
        + """
unfix 1
run 0
write_data final.data
print "ENERGY: $(pe:%.15g)"
print "CHARGE: $(c_total:%.10g)"
print "ATOMS: $(atoms)"
""",
        n_ranks=2,
    )
    assert run.status == 0, run.screen
    assert abs(run.value("CHARGE")[0]) < 1e-10
    assert run.value("ATOMS")[0] != 60
    fresh = f"units metal\natom_style charge\nread_data final.data\npair_style {style}\n"
    fresh += f'pair_coeff * * nep.txt {ELEMENTS}\nrun 0\nprint "ENERGY: $(pe:%.15g)"\n'
    energy = run_lammps(fresh).value("ENERGY")[0]
    # the mesh is chosen for the charges of the first step, so a mesh of another size may stand here
    tolerance = 1e-8 if kspace == "direct" else 1e-5
    assert run.value("ENERGY")[0] == pytest.approx(energy, rel=tolerance)


@pytest.mark.mpi
def test_balanced_domains(start, run_lammps, random_electrolyte):
    """fix balance moves the borders of the domains, which the mesh must follow."""
    script = (
        start(MESH) + "compute e all pe/atom\ndump d all custom 10 atoms.dump id x y z fx fy fz\n"
    )
    script += "dump_modify d sort id format float %.17g\nvelocity all create 300 3\nfix 1 all nve\n"
    plain = run_lammps(script + "run 20\n", n_ranks=2).table()
    balanced = run_lammps(script + "fix b all balance 5 1.0 shift xyz 10 1.0\nrun 20\n", n_ranks=2)
    assert balanced.status == 0, balanced.screen
    np.testing.assert_allclose(balanced.table(), plain, atol=1e-6)


def test_hybrid_overlay_adds_a_plain_pair_style(start, run_lammps):
    """Energies of qnep and zbl together are the sum of both alone."""
    energies = []
    for style, coefficients in (
        (STYLE, f"nep.txt {ELEMENTS}"),
        ("zbl 2.0 3.0", "11.0 11.0"),
        (
            f"hybrid/overlay {STYLE} zbl 2.0 3.0",
            f"qnep nep.txt {ELEMENTS}\npair_coeff * * zbl 11.0 11.0",
        ),
    ):
        run = run_lammps(start(style, coefficients) + 'run 0\nprint "ENERGY: $(pe:%.15g)"\n')
        assert run.status == 0, run.screen
        energies.append(run.value("ENERGY")[0])
    assert energies[2] == pytest.approx(energies[0] + energies[1], rel=1e-10)


def test_types_that_change_between_two_lists(start, run_lammps):
    """Monte Carlo flips types at the second step; the third one's energy is that of the new types already."""
    run = run_lammps(
        start().replace("every 1 delay 0 check yes", "every 100 delay 100 check no")
        + """
replicate 2 2 2  # what the fix needs
fix flips all sgcmc 2 0.05 5000 0.0 0.0
run 3
print "CHANGED: $(pe:%.15g) $(f_flips[1])"
unfix flips
run 0
print "FRESH: $(pe:%.15g)"
"""
    )
    skip_without("sgcmc", run)
    assert run.status == 0, run.screen
    changed, n_accepted = run.value("CHANGED")
    assert n_accepted > 0
    assert changed == pytest.approx(run.value("FRESH")[0], rel=1e-12)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (f"{STYLE} deviation d.txt 1", STYLE),
        (STYLE, f"{STYLE} charge 1"),
        ("qnep kspace pppm 1e-2", STYLE),
    ],
)
def test_second_pair_style_command(first, second, start, run_lammps):
    """Nothing of the first command stays: the same energy as with the second one alone."""
    models = "nep.txt nep.txt" if "deviation" in first else "nep.txt"
    run = run_lammps(
        start(first, f"{models} {ELEMENTS}")
        + f"run 0\npair_style {second}\npair_coeff * * nep.txt {ELEMENTS}\n"
        + 'run 1\nprint "AGAIN: $(pe:%.15g)"\n'
    )
    assert run.status == 0, run.screen
    alone = run_lammps(start(second) + 'run 0\nprint "ALONE: $(pe:%.15g)"\n')
    assert run.value("AGAIN") == pytest.approx(alone.value("ALONE"), rel=1e-12)


def test_coulomb_of_another_style_beside_it(start, run_lammps):
    """The cutoff of a sub-style with a k-space solver of its own need not be that of the model."""
    energies = []
    for style, coefficients in (
        (MESH, f"nep.txt {ELEMENTS}"),
        ("coul/dsf 0.2 8.0", ""),
        (
            f"hybrid/overlay coul/dsf 0.2 8.0 {MESH}",  # before the model has set charges
            f"qnep nep.txt {ELEMENTS}\npair_coeff * * coul/dsf",
        ),
    ):
        run = run_lammps(start(style, coefficients) + 'run 0\nprint "ENERGY: $(pe:%.15g)"\n')
        skip_without("coul/dsf", run)
        assert run.status == 0, run.screen
        energies.append(run.value("ENERGY")[0])
    assert energies[2] == pytest.approx(energies[0] + energies[1], rel=1e-9)


BONDED = """
units metal
atom_style full
bond_style harmonic
read_data system.data extra/bond/per/atom 2 extra/special/per/atom 8
bond_coeff 1 1.0 1.5
create_bonds single/bond 1 {first} {second}
pair_style hybrid qnep kspace direct lj/cut 5.0
pair_coeff * * qnep nep.txt Na C NULL
pair_coeff * 3 lj/cut 0.001 1.0
run 0
print "ENERGY: $(pe:%.15g)"
"""


@pytest.mark.parametrize("n_ranks", [1, 2])
@pytest.mark.parametrize("pair", ["of the other force field", "across", "of the model"])
def test_bonded_atoms(pair, n_ranks, start, run_lammps, random_electrolyte, tmp_path):
    """Default special_bonds take pairs out of the list: refused only where both are atoms of the model."""
    start()
    atoms = random_electrolyte(30, lengths=(11.0, 11.0, 12.0))
    write_data(tmp_path / "system.data", atoms, ELEMENTS, "full")
    text = (tmp_path / "system.data").read_text()
    (tmp_path / "system.data").write_text(
        text.replace("3 atom types", "3 atom types\n1 bond types")
    )
    symbols = np.array(atoms.get_chemical_symbols())
    model, other = np.flatnonzero(symbols != "O") + 1, np.flatnonzero(symbols == "O") + 1
    first, second = {
        "of the other force field": (other[0], other[1]),
        "across": (model[0], other[0]),
        "of the model": (model[0], model[1]),
    }[pair]
    run = run_lammps(BONDED.format(first=first, second=second), n_ranks=n_ranks)
    skip_without("full", run)
    if pair == "of the model":
        assert run.status != 0
        assert "wanted special_bonds lj/coul 1 1 1 where atoms of the model are bonded" in " ".join(
            run.screen.split()
        )
    else:
        assert run.status == 0, run.screen


def test_units_real(start, run_lammps):
    """kcal/mol and fs: the energy is that of metal units times 23.060549, the pressure in atm fits that in bar."""
    script = 'run 0\nprint "VALUES: $(pe:%.15g) $(press:%.15g)"\n'
    metal = run_lammps(start(MESH) + script).value("VALUES")
    real = run_lammps(start(MESH).replace("units metal", "units real") + script).value("VALUES")
    assert real[0] == pytest.approx(23.060549 * metal[0], rel=1e-6)
    assert real[1] * 1.01325 == pytest.approx(metal[1], rel=1e-5)


def test_slab_correction(start, run_lammps):
    """Free surfaces: the energy does not change with the empty space above, and no force acts on the whole slab."""
    energies = []
    for factor in (3.0, 6.0):
        run = run_lammps(
            start(f"qnep kspace ewald 1e-9 slab {factor}", boundary="p p f").replace(
                "read_data system.data", "read_data system.data\nchange_box all z final -2 14"
            )
            + "thermo_style custom step pe fmax\ncompute f all reduce sum fx fy fz\n"
            "thermo_style custom step pe c_f[3]\n"
            'run 0\nprint "ENERGY: $(pe:%.15g) $(c_f[3]:%.6g)"\n'
        )
        assert run.status == 0, run.screen
        energies.append(run.value("ENERGY"))
    # the images of the slab are 24 Å away in the smaller box; what the dipole correction leaves decays exponentially
    assert energies[0][0] == pytest.approx(energies[1][0], abs=1e-6)
    assert abs(energies[0][1]) < 1e-9


def test_minimizer_lowers_the_energy(start, run_lammps):
    run = run_lammps(
        start()
        + 'run 0\nprint "BEFORE: $(pe:%.10g) $(fmax:%.10g)"\nminimize 0 1e-3 200 1000\n'
        + 'print "AFTER: $(pe:%.10g) $(fmax:%.10g)"\n'
    )
    assert run.status == 0, run.screen
    energy, force = run.value("BEFORE")
    lower_energy, lower_force = run.value("AFTER")
    assert lower_energy < energy
    assert lower_force < 0.05 * force


def test_run_every_is_one_run(start, run_lammps):
    """Commands in between, one of which evaluates the energy, change nothing."""
    script = start() + "velocity all create 300 2\nfix 1 all nve\n"
    script += "dump d all custom 20 atoms.dump id xu yu zu vx vy vz q\ndump_modify d sort id format float %.17g\n"
    whole = run_lammps(script + "run 20\n").table()
    run = run_lammps(script + "run 20 every 5 'print \"ENERGY: $(pe:%.10g)\"'\n")
    assert run.status == 0, run.screen
    assert len(set(re.findall(r"^ENERGY: (.*)$", run.screen, re.MULTILINE))) == 4
    np.testing.assert_allclose(run.table(), whole, atol=1e-11)


@pytest.mark.mpi
def test_timing_breakdown(start, run_lammps):
    run = run_lammps(start(MESH + " timing yes") + "fix 1 all nve\nrun 5\n", n_ranks=2)
    for stage in ("Neighbor blocks", "Descriptors", "Charges", "K-space", "Forces", "Comm"):
        assert stage in run.screen


def test_lost_atoms_are_reported(start, run_lammps):
    """LAMMPS's own error, not a hang or a crash."""
    run = run_lammps(
        start(MESH + " slab 3.0", boundary="p p f")
        + "velocity all set 0 0 500\nfix 1 all nve\nthermo 1\nrun 200\n",
        n_ranks=2,
    )
    assert run.status != 0
    assert "Lost atoms" in run.screen or "Out of range atoms" in run.screen


@pytest.mark.mpi
def test_run_goes_on_without_lost_atoms(start, run_lammps):
    """With `thermo_modify lost ignore` an atom that flies off leaves a neutral rest whose energy is its own."""
    style = "qnep kspace ewald 1e-9 slab 3.0"
    run = run_lammps(
        start(style, boundary="p p f")
        + """
group flying id 7
velocity flying set 0 0 5000
fix 1 flying nve
compute charges all property/atom q
compute total all reduce sum c_charges
thermo_style custom step atoms pe c_total
thermo_modify lost ignore
thermo 1
neigh_modify every 1 delay 0 check no
run 20
write_data final.data
print "ENERGY: $(pe:%.15g)"
print "CHARGE: $(c_total:%.10g)"
print "ATOMS: $(atoms)"
""",
        n_ranks=2,
    )
    assert run.status == 0, run.screen
    assert run.value("ATOMS")[0] == 59
    assert abs(run.value("CHARGE")[0]) < 1e-10
    fresh = "units metal\natom_style charge\nboundary p p f\nread_data final.data\n"
    fresh += f'pair_style {style}\npair_coeff * * nep.txt {ELEMENTS}\nrun 0\nprint "ENERGY: $(pe:%.15g)"\n'
    energy = run_lammps(fresh).value("ENERGY")[0]
    assert run.value("ENERGY")[0] == pytest.approx(energy, rel=1e-7)
