"""fix qnep/conp against the ASE class, on several ranks, with ramps, restarts, PLUMED and wrong input."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.io.lammpsdata import read_lammps_data
from electrode_cells import charged_model, membership, two_electrodes
from lammps_scripts import BAR_PER_EV, write_data

from qnep import QNEP
from qnep.electrode import ConstantPotential, Electrode, ElementParameters, FixedMembership
from qnep.model import random_model

BASES = {"induced": "kspace direct", "equilibrated": ""}
POTENTIALS = {"induced": (-1.0, 1.5), "equilibrated": (-2.0, 6.0)}
VOLTAGES = "electrode lower potential {0} electrode upper potential {1}"
GROUPS = "electrode lower potential {0} group lower electrode upper potential {1} group upper"

SCRIPT = """
units {units}
atom_style charge
boundary {boundary}
{before}
read_data system.data
pair_style {style}
pair_coeff * * {coefficients}
group lower id 1:16
group upper id 17:32
neighbor 1.0 bin
timestep 0.0005
thermo_style custom step pe
{fix}
{run}
"""

EVALUATION = f"""
compute virial all pressure NULL virial
variable to_ev equal vol/{BAR_PER_EV:.17g}
dump atoms all custom 1 atoms.dump id fx fy fz q f_cell[1] f_cell[2]
dump_modify atoms sort id format float %.17g
thermo_style custom step pe c_virial[1]
run 0
print "ENERGY: $(pe:%.17g) $(f_cell:%.17g)"
print "FIX: $(f_cell[1]) $(f_cell[2]) $(f_cell[3]:%.17g)"
print "LOWER: $(f_cell[4]:%.17g) $(f_cell[5]:%.17g)"
print "UPPER: $(f_cell[6]:%.17g) $(f_cell[7]:%.17g)"
print "VIRIAL: $(c_virial[1]*v_to_ev:%.17g) $(c_virial[2]*v_to_ev:%.17g) $(c_virial[4]*v_to_ev:%.17g)"
"""


def script(scheme, settings, run=EVALUATION, **changes):
    """Input for the cell of `two_electrodes`; settings follow the elements of the fix."""
    values = {
        "units": "metal",
        "boundary": "p p p",
        "before": "",
        "style": f"qnep {BASES[scheme]}",
        "coefficients": "nep.txt F Na",
        "fix": f"fix cell all qnep/conp {scheme} F Na {settings}",
        "run": run,
    }
    return SCRIPT.format(**(values | changes))


def automatic(atoms: Atoms) -> str:
    """Keywords of the membership of `electrode_cells.membership`."""
    switch = membership(atoms)
    return (
        f"metal Na distances {switch.distances[0]} {switch.distances[1]} "
        f"counts {switch.counts[0]} {switch.counts[1]} "
        f"planes {switch.planes[0]:.17g} plane_width {switch.plane_width} "
    )


@pytest.fixture
def system(tmp_path):
    """Model and data file of a scheme; the atoms as LAMMPS reads them, some wrapped through the vacuum."""

    def write(scheme):
        model = (
            charged_model()
            if scheme == "induced"
            else random_model(
                "Na F",
                radial_cutoff=5.0,
                angular_cutoff=4.0,
                n_max=(2, 2),
                basis_size=(4, 4),
                seed=2,
            )
        )
        model.write(str(tmp_path / "nep.txt"))
        write_data(tmp_path / "system.data", two_electrodes(), "F Na")
        return read_lammps_data(tmp_path / "system.data", atom_style="charge", units="metal")

    return write


def reference(atoms, scheme, tmp_path, groups=None, electrodes=None, **settings):
    """The ASE calculator of the same cell."""
    electrodes = electrodes or [
        Electrode(name, potential_V=potential)
        for name, potential in zip(("lower", "upper"), POTENTIALS[scheme])
    ]
    base = {"kspace": "ewald"} if scheme == "induced" else {}
    values = {"kspace": "ewald", "tolerance": 1e-10} | settings
    return ConstantPotential(
        QNEP(str(tmp_path / "nep.txt"), **base),
        electrodes,
        groups or membership(atoms),
        scheme=scheme,
        **values,
    )


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2, 4])
@pytest.mark.parametrize("scheme", BASES)
def test_equals_the_ase_class(scheme, n_ranks, system, run_lammps, tmp_path):
    """Energy, forces, charges, virial and electrode charges, with atoms in the middle of the switch."""
    atoms = system(scheme)
    settings = VOLTAGES.format(*POTENTIALS[scheme]) + " " + automatic(atoms)
    run = run_lammps(script(scheme, settings + "kspace ewald tolerance 1e-10"), n_ranks=n_ranks)
    assert run.status == 0, run.screen
    atoms.calc = reference(atoms, scheme, tmp_path)
    rows = run.table()
    np.testing.assert_allclose(rows[:, :3], atoms.get_forces(), rtol=0, atol=1e-8)
    np.testing.assert_allclose(rows[:, 3], atoms.get_charges(), rtol=0, atol=1e-8)
    results = atoms.calc.results
    assert run.value("ENERGY")[0] == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
    for name, charge, potential in zip(
        ("LOWER", "UPPER"), results["electrode_charges"], results["electrode_potentials"]
    ):
        assert run.value(name)[0] == pytest.approx(charge, abs=1e-8)
        assert run.value(name)[1] == pytest.approx(potential, abs=1e-12)
    virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
    expected = [virial[0, 0], virial[1, 1], virial[0, 1]]
    np.testing.assert_allclose(run.value("VIRIAL"), expected, rtol=1e-6, atol=1e-6)


def columns(run):
    """Rows of the last thermo table."""
    table = run.screen.split("Step")[-1].split("Loop time")[0].splitlines()[1:]
    return np.array([[float(word) for word in line.split()] for line in table if line.strip()])


DYNAMICS = """
fix motion all nve
velocity all create 300 7 mom yes dist gaussian loop geom
thermo_style custom step etotal f_cell[1] f_cell[3] f_cell[6] f_cell[7]
thermo_modify format float %.15g
thermo 1
run {steps}
write_dump all custom atoms.dump id x y z fx fy fz q modify sort id format float %.17g
"""


@pytest.mark.mpi
@pytest.mark.parametrize("scheme", BASES)
def test_dynamics_with_a_ramp_on_1_2_4_ranks(scheme, system, run_lammps, tmp_path):
    """Same positions and charges on any number of ranks, those of the ASE class at the ramp's last potential."""
    atoms = system(scheme)
    lower, upper = POTENTIALS[scheme]
    settings = VOLTAGES.format(lower, "v_ramp") + f" {automatic(atoms)} kspace ewald tolerance 1e-9"
    before = f"variable ramp equal {upper}+0.1*step"
    tables = []
    for n_ranks in (1, 2, 4):
        run = run_lammps(
            script(scheme, settings, DYNAMICS.format(steps=8), before=before), n_ranks=n_ranks
        )
        assert run.status == 0, run.screen
        tables.append(run.table())
        thermo = columns(run)
        np.testing.assert_allclose(thermo[:, 5], upper + 0.1 * np.arange(9), atol=1e-12)
        # The start is extrapolated from earlier steps, those before the first step being none.
        assert thermo[-1, 2] < thermo[0, 2]
    np.testing.assert_allclose(tables[1], tables[0], rtol=0, atol=1e-7)
    np.testing.assert_allclose(tables[2], tables[0], rtol=0, atol=1e-7)

    atoms.calc = reference(atoms, scheme, tmp_path)
    atoms.calc.set_potential("upper", upper + 0.8)
    atoms.positions = tables[0][:, :3]
    np.testing.assert_allclose(tables[0][:, 3:6], atoms.get_forces(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(tables[0][:, 6], atoms.get_charges(), rtol=0, atol=1e-7)


def test_ramps_of_all_charges(system, run_lammps):
    """Each electrode has a variable of its own; the sum is looked at when all have their values."""
    atoms = system("induced")
    settings = (
        "electrode lower charge v_lower electrode upper charge v_upper "
        f"{automatic(atoms)} kspace ewald tolerance 1e-9"
    )
    before = "variable lower equal -0.1*(step+1)\nvariable upper equal 0.1*(step+1)"
    run = run_lammps(
        script(
            "induced",
            settings,
            run='run 2\nprint "CHARGES: $(f_cell[4]:%.15g) $(f_cell[6]:%.15g)"',
            before=before,
        )
    )
    assert run.status == 0, run.screen
    np.testing.assert_allclose(run.value("CHARGES"), [-0.3, 0.3], atol=1e-8)


@pytest.mark.parametrize("scheme", BASES)
def test_vacuum_in_the_middle_of_the_box(scheme, system, run_lammps):
    """As the ASE class has it: the gap's centre may lie on either side of the middle."""
    atoms = system(scheme)
    switch = membership(atoms)
    fractions = np.sort(atoms.get_scaled_positions()[:, 2])
    gaps = np.diff(np.append(fractions, fractions[0] + 1.0))
    centre = fractions[gaps.argmax()] + 0.5 * gaps.max()
    energies = []
    for shift in (0.5 - centre - 1e-3, 0.5 - centre + 1e-3):
        keywords = automatic(atoms).replace(
            f"planes {switch.planes[0]:.17g}", f"planes {switch.planes[0] + shift:.17g}"
        )
        settings = f"{VOLTAGES.format(*POTENTIALS[scheme])} {keywords} kspace ewald tolerance 1e-9"
        move = f"displace_atoms all move 0 0 {shift * atoms.cell[2, 2]:.17g} units box\n"
        run = run_lammps(script(scheme, settings, run=move + 'run 0\nprint "ENERGY: $(pe:%.15g)"'))
        assert run.status == 0, run.screen
        energies.append(run.value("ENERGY")[0])
    assert energies[1] == pytest.approx(energies[0], abs=1e-6)


def test_restart_starts_warm_and_goes_the_same_way(system, run_lammps, tmp_path):
    atoms = system("induced")
    settings = VOLTAGES.format(-1.0, 1.5) + f" {automatic(atoms)} kspace ewald tolerance 1e-9"
    halves = DYNAMICS.format(steps=6) + "write_restart half.restart\nrun 6\n"
    halves += "write_dump all custom whole.dump id x y z q modify sort id format float %.17g"
    whole = run_lammps(script("induced", settings, halves))
    assert whole.status == 0, whole.screen
    resumed = f"""
units metal
read_restart half.restart
pair_style qnep kspace direct
pair_coeff * * nep.txt F Na
neighbor 1.0 bin
fix cell all qnep/conp induced F Na {settings}
fix motion all nve
timestep 0.0005
thermo_style custom step etotal f_cell[1]
thermo 1
run 6
write_dump all custom resumed.dump id x y z q modify sort id format float %.17g
"""
    run = run_lammps(resumed)
    assert run.status == 0, run.screen
    np.testing.assert_allclose(
        run.table("resumed.dump"), whole.table("whole.dump"), rtol=0, atol=1e-8
    )
    # The charges of the step at which the run was cut are in the file: at most one iteration for each linear system.
    assert columns(run)[0, 2] <= 2
    assert columns(whole)[0, 2] <= 2


@pytest.mark.mpi
def test_groups_and_held_charges(system, run_lammps, tmp_path):
    """One electrode of fixed charge, one of fixed potential, in LAMMPS groups, as the ASE class has them."""
    atoms = system("equilibrated")
    settings = (
        "electrode lower charge 0.3 group lower electrode upper potential 2.0 group upper "
        "kspace ewald tolerance 1e-10 parameters Na 2.9 4.6 1.5"
    )
    run = run_lammps(script("equilibrated", settings), n_ranks=2)
    assert run.status == 0, run.screen
    atoms.calc = reference(
        atoms,
        "equilibrated",
        tmp_path,
        FixedMembership([range(16), range(16, 32)]),
        [Electrode("lower", charge=0.3), Electrode("upper", potential_V=2.0)],
        parameters={"Na": ElementParameters(2.9, 4.6, 1.5)},
    )
    forces = atoms.get_forces()
    rows = run.table()
    np.testing.assert_allclose(rows[:, :3], forces, rtol=0, atol=1e-8)
    np.testing.assert_allclose(rows[:, 3], atoms.get_charges(), rtol=0, atol=1e-8)
    assert run.value("LOWER")[0] == pytest.approx(0.3, abs=1e-9)
    potentials = atoms.calc.results["electrode_potentials"]
    assert run.value("LOWER")[1] == pytest.approx(potentials[0], abs=1e-7)
    np.testing.assert_array_equal(rows[:, 5], np.repeat([1.0, 0.0], [32, 4]))


def test_capacitance_is_the_derivative_of_the_charge(system, run_lammps):
    """f_cell[3] of the induced scheme, by difference of the charges at two potentials."""
    atoms = system("induced")
    charges, capacitances = [], []
    for upper in (1.5, 1.6):
        settings = VOLTAGES.format(-1.0, upper) + f" {automatic(atoms)} tolerance 1e-10"
        run = run_lammps(script("induced", settings))
        charges.append(run.value("UPPER")[0])
        capacitances.append(run.value("FIX")[2])
    assert capacitances[0] == pytest.approx((charges[1] - charges[0]) / 0.1, rel=1e-4)
    assert capacitances[0] == pytest.approx(capacitances[1], rel=1e-6)


def test_units_real(system, run_lammps, tmp_path):
    atoms = system("induced")
    settings = VOLTAGES.format(-1.0, 1.5) + f" {automatic(atoms)} kspace ewald tolerance 1e-10"
    run = run_lammps(script("induced", settings, units="real"))
    assert run.status == 0, run.screen
    atoms.calc = reference(atoms, "induced", tmp_path)
    np.testing.assert_allclose(
        run.table()[:, :3], 23.060549 * atoms.get_forces(), rtol=1e-7, atol=1e-6
    )
    assert run.value("ENERGY")[0] == pytest.approx(
        23.060549 * atoms.get_potential_energy(), rel=1e-7
    )


SWING = """
group adatom id 33
group slabs subtract all adatom
fix slabs slabs spring/self 5.0
fix adatom adatom spring/self 4.0
fix_modify slabs energy yes
fix_modify adatom energy yes
displace_atoms adatom move 0 0 -0.6
velocity all create 300 7 mom yes dist gaussian loop geom
fix motion all nve
compute weight adatom reduce sum f_cell[2]
timestep 0.001
thermo_style custom step etotal c_weight
thermo_modify format float %.15g
thermo 50
run 20000
"""


@pytest.mark.long
@pytest.mark.parametrize("scheme", BASES)
def test_no_drift_over_20_ps(scheme, system, run_lammps, tmp_path):
    """Less than 1e-5 eV/atom/ps, from a straight line through the total energy, while an adatom swings.

    Atoms are on springs, as a random model holds no metal together; that of the adatom ends above the surface, so that
    it swings through the switch of its membership.
    """
    atoms = system(scheme)
    del atoms[[atom.index for atom in atoms if atom.symbol == "F"]]
    settings = VOLTAGES.format(*POTENTIALS[scheme]) + f" {automatic(two_electrodes())}"
    drifts = {}
    for name, counts in {"smooth": "", "sudden": " counts 4.499 4.501"}.items():
        started = atoms.copy()
        started.positions[32, 2] += 0.6  # where its spring is tied
        write_data(tmp_path / "system.data", started, "F Na")
        run = run_lammps(script(scheme, f"{settings} kspace ewald tolerance 1e-7{counts}", SWING))
        assert run.status == 0, run.screen
        thermo = columns(run)
        assert len(thermo) == 401
        assert np.ptp(thermo[:, 2]) > 0.2
        slope = np.polyfit(thermo[:, 0] / 1000, thermo[:, 1] / len(atoms), 1)[0]
        drifts[name] = abs(slope)
    assert drifts["smooth"] < 1e-5
    assert (
        drifts["sudden"] > 10 * drifts["smooth"]
    )  # else the adatom did not show what the switch is for


@pytest.mark.parametrize("scheme", BASES)
def test_below_hybrid_overlay_and_with_plumed(scheme, system, run_lammps, tmp_path):
    """Forces of the model with electrodes, of another pair style and of a bias add up."""
    atoms = system(scheme)
    settings = VOLTAGES.format(*POTENTIALS[scheme]) + f" {automatic(atoms)} tolerance 1e-9"
    coefficients = "qnep nep.txt F Na\npair_coeff * * lj/cut 0.01 3.0"
    hybrid = {
        "style": f"hybrid/overlay qnep {BASES[scheme]} lj/cut 6.0",
        "coefficients": coefficients,
    }
    (tmp_path / "plumed.dat").write_text(
        "UNITS LENGTH=A ENERGY=eV TIME=ps\nd: DISTANCE ATOMS=1,33\nRESTRAINT ARG=d AT=4.0 KAPPA=1.0\n"
    )
    plumed = "fix bias all plumed plumedfile plumed.dat outfile plumed.log\n"
    forces = []
    for changes in (
        hybrid | {"run": plumed + EVALUATION},
        {},
        {"style": "lj/cut 6.0", "coefficients": "0.01 3.0", "fix": plumed},
    ):
        if "fix" in changes:
            changes["run"] = (
                "run 0\nwrite_dump all custom atoms.dump id fx fy fz modify sort id format float %.17g"
            )
        run = run_lammps(script(scheme, settings, **changes))
        assert run.status == 0, run.screen
        forces.append(run.table()[:, :3])
    # PLUMED's own precision of the biased distance.
    np.testing.assert_allclose(forces[0], forces[1] + forces[2], rtol=0, atol=1e-7)
    assert np.abs(forces[2]).max() > 0.1


def test_minimisation_follows_the_grand_potential(system, run_lammps):
    """The energy of the minimiser contains the fix, else it would stop at once or go uphill."""
    atoms = system("induced")
    settings = VOLTAGES.format(-1.0, 1.5) + f" {automatic(atoms)} tolerance 1e-9"
    minimise = "thermo 1\nthermo_modify format float %.15g\nmin_style cg\nminimize 0 1e-6 20 40\n"
    run = run_lammps(script("induced", settings, minimise))
    assert run.status == 0, run.screen
    energies = columns(run)[:, 1]
    assert len(energies) > 5
    assert np.all(np.diff(energies) <= 1e-9)
    assert energies[-1] < energies[0] - 0.1


@pytest.mark.parametrize(("gap", "published"), [(20.0, 0.212), (40.0, 0.106)])
def test_two_plates_of_published_parameters(gap, published, run_lammps, tmp_path):
    """8 V between two lithium planes, no other potential: 5 % of the published densities, e/nm²."""
    edge, n_side = 4 * 3.51, 4
    grid = 3.51 * np.stack(np.meshgrid(range(n_side), range(n_side)), axis=-1).reshape(-1, 2)
    heights = np.repeat([15.0, 15.0 + gap], len(grid))
    positions = np.column_stack([np.tile(grid, (2, 1)), heights])
    atoms = Atoms("Li32", positions, cell=[edge, edge, gap + 50.0], pbc=True)
    write_data(tmp_path / "system.data", atoms, "Li")
    settings = "electrode a potential -4 group lower electrode b potential 4 group upper"
    run = run_lammps(
        script(
            "equilibrated",
            settings,
            style="zero 5.0",
            coefficients="",
            fix=f"fix cell all qnep/conp equilibrated Li {settings}",
        )
    )
    assert run.status == 0, run.screen
    assert 100 * run.value("UPPER")[0] / edge**2 == pytest.approx(published, rel=0.05)
    assert run.value("UPPER")[0] == pytest.approx(8 * run.value("FIX")[2], rel=1e-6)


AUTOMATIC = "metal Na distances 4.4 5.6 counts 3 8 planes 0.5 plane_width 0.1"
BOTH = VOLTAGES.format(-1, 1.5)

WRONG_ARGUMENTS = {
    "static F Na": "scheme: wanted induced or equilibrated, got static",
    "induced F": "elements: wanted 2 element(s), one for each atom type, got nothing",
    "induced F Qq": "elements: wanted 2 element(s), one for each atom type, got Qq",
    "induced F Na": "wanted at least one keyword electrode, got none",
    "induced F Na electrode": "wanted a name, potential or charge, and a value, got nothing",
    "induced F Na electrode a voltage 3": "electrode a: wanted potential or charge, got voltage",
    "induced F Na electrode a potential high": "wanted a number or v_name of an equal-style variable, got high",
    "induced F Na electrode a potential nan": "got nan",
    "induced F Na electrode a potential 1 group nobody": "wanted the name of a group, got nobody",
    "induced F Na electrode a potential v_none group lower": "wanted an equal-style variable, got v_none",
    f"induced F Na {BOTH}": "wanted a group for every electrode or the keyword metal, got neither",
    f"induced F Na {BOTH} group upper": "wanted either a group for every electrode, or none",
    f"induced F Na {BOTH} metal Li planes 0.5": "keyword metal: wanted elements of the atom types, got Li",
    f"induced F Na {BOTH} metal Na": "planes must be one less than electrodes, got 0 planes for 2",
    f"induced F Na {BOTH} {AUTOMATIC} counts 8 5": "counts: wanted two positive numbers, ascending, got 8 5",
    f"induced F Na {BOTH} {AUTOMATIC} slab w": "keyword slab: wanted x, y, z or none, got w",
    f"induced F Na {BOTH} {AUTOMATIC} kspace msm": "keyword kspace: wanted auto, ewald or pppm",
    f"induced F Na {BOTH} {AUTOMATIC} tolerance 0": "keyword tolerance: wanted a positive charge in e, got 0",
    f"induced F Na {BOTH} {AUTOMATIC} colour red": "unknown keyword colour, wanted one of: always, charge,",
    f"induced F Na {BOTH} {AUTOMATIC} parameters Na 1 0 1": "the last two positive, got 0",
    f"induced F Na {BOTH} {AUTOMATIC} parameters Na 1 1 -1": "the last two positive, got -1",
    f"induced F Na {BOTH} {AUTOMATIC} charge 1": "a cell with a slab axis must be neutral",
    f"induced F Na {BOTH} {AUTOMATIC} slab none": "meet through the boundary",
    f"induced F Na {BOTH} {AUTOMATIC} slab x": "vacuum along cell vector 0",
    f"induced F Na {BOTH} {AUTOMATIC} counts 30 40": "no atom belongs to electrode lower",
    "induced F Na electrode a potential 0 group lower electrode a potential 1 group upper": "different names",
    "induced F Na electrode a charge 1 group lower electrode b charge 1 group upper": "must sum to zero",
    "induced F Na electrode a potential 0 group lower electrode b potential 1 group all": "more than one electrode",
    "induced F Na electrode a potential 0 group half electrode b potential 1 group other": "touch:",
    "induced F Na electrode a potential 0 group lower electrode b potential 1 group nobodies": "no atom belongs to",
}


@pytest.mark.parametrize("arguments", WRONG_ARGUMENTS)
def test_wrong_arguments(arguments, system, run_lammps):
    system("induced")
    groups = "group half id 1:8\ngroup other id 9:32\ngroup nobodies empty\n"
    run = run_lammps(
        script("induced", "", "run 0", fix=f"{groups}fix cell all qnep/conp {arguments}")
    )
    assert run.status != 0
    assert "fix qnep/conp" in run.screen
    assert WRONG_ARGUMENTS[arguments] in run.screen


WRONG_SYSTEMS = {
    "open box": (
        {"boundary": "p p f", "style": "zero 5.0", "coefficients": ""},
        "wanted boundary p p p, with vacuum inside the box",
    ),
    "units": (
        {"units": "lj", "style": "zero 5.0", "coefficients": ""},
        "wanted units metal or real",
    ),
    "other pair style": ({"style": "zero 5.0", "coefficients": ""}, "wanted one pair_style qnep"),
    "part of the atoms": (
        {"fix": f"fix cell lower qnep/conp induced F Na {BOTH} {AUTOMATIC}"},
        "wanted the group all",
    ),
    "charged model": (
        {"style": f"qnep {BASES['induced']} charge 1"},
        "must be neutral, its dipole has no meaning otherwise; the model's charges sum to 1 e",
    ),
    "two of them": (
        {"run": f"fix again all qnep/conp induced F Na {BOTH} {AUTOMATIC}\nrun 0"},
        "wanted one such fix with all electrodes",
    ),
}


@pytest.mark.parametrize("name", WRONG_SYSTEMS)
def test_wrong_systems(name, system, run_lammps):
    system("induced")
    changes, message = WRONG_SYSTEMS[name]
    run = run_lammps(script("induced", f"{BOTH} {AUTOMATIC}", **({"run": "run 0"} | changes)))
    assert run.status != 0
    assert message in run.screen


def test_model_without_charges(system, run_lammps):
    system("equilibrated")
    run = run_lammps(
        script(
            "equilibrated", "", "run 0", fix=f"fix c all qnep/conp induced F Na {BOTH} {AUTOMATIC}"
        )
    )
    assert run.status != 0
    assert "wanted a qNEP model, got one without charges" in run.screen


@pytest.mark.mpi
def test_an_element_without_parameters(system, run_lammps):
    system("equilibrated")
    run = run_lammps(
        script(
            "equilibrated",
            "",
            "run 0",
            fix=f"fix c all qnep/conp equilibrated F Si {BOTH} metal Si planes 0.5",
        ),
        n_ranks=2,
    )
    assert run.status != 0
    assert "wanted charge parameters for Si, got none" in run.screen


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_what_does_not_converge_is_saved(n_ranks, system, run_lammps, tmp_path):
    """A jump of the potential beyond what sixteen digits resolve: the state of that step can be read again."""
    atoms = system("induced")
    settings = (
        VOLTAGES.format(-1.0, "v_u")
        + f" {automatic(atoms)} kspace ewald max_iterations 9 tolerance 1e-4"
    )
    before = "variable u equal 1.5+1e15*(step>3)"
    run = run_lammps(
        script("induced", settings, DYNAMICS.format(steps=6), before=before), n_ranks=n_ranks
    )
    assert run.status != 0
    assert "the charges did not converge in" in run.screen
    assert "raise max_iterations" in run.screen
    assert "State of step 4 saved in cell.failed.restart" in run.screen
    resumed = run_lammps(
        "read_restart cell.failed.restart\npair_style zero 5.0\npair_coeff * *\nrun 0\n"
        "write_dump all custom atoms.dump id x y z modify sort id"
    )
    assert resumed.status == 0, resumed.screen
    assert np.isfinite(resumed.table()).all()
    assert len(resumed.table()) == len(atoms)


def test_senseless_charges_are_reported(system, run_lammps):
    atoms = system("induced")
    run = run_lammps(script("induced", VOLTAGES.format(-1.0, 500.0) + " " + automatic(atoms)))
    assert run.status == 0, run.screen
    assert "WARNING: fix qnep/conp: electrode atom" in run.screen
    assert "at potentials -1 500 V: they drive the model beyond its sense" in run.screen
