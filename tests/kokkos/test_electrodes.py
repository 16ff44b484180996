"""Electrodes, fields and quantities of atoms with the Kokkos style, against the host style in the same LAMMPS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from ase import Atoms
from ase.io.lammpsdata import write_lammps_data
from electrode_cells import charged_model, membership, two_electrodes
from kokkos_systems import ELEMENTS, write_system

from qnep import QNEP, random_model

# Results of sums in another order, after some iterations of a solver.
ROUNDING = 1e-10

CELL = """
units {units}
atom_style charge
newton on
read_data system.data
pair_style {style}
pair_coeff * * {coefficients}
group lower id 1:16
group upper id 17:32
neighbor 1.0 bin
timestep 0.001
fix cell all qnep/conp {scheme} F Na {settings} kspace ewald tolerance {tolerance}
compute virial all pressure NULL virial
thermo_style custom step pe f_cell f_cell[1] f_cell[3] f_cell[4] f_cell[5] f_cell[6] f_cell[7] c_virial[*]
thermo_modify format float %.17g norm no
thermo 1
{motion}
dump atoms all custom 1 atoms.dump id x y z fx fy fz q f_cell[1] f_cell[2]
dump_modify atoms sort id format float %.17g
run {steps}
"""
ITERATIONS = 3  # column of the thermo output
POTENTIALS = "electrode lower potential {0} electrode upper potential {1}"


def write_cell(folder, is_charged=True) -> Atoms:
    """Two sodium electrodes, an adatom in the middle of the switch of its membership, and atoms between them."""
    atoms = two_electrodes()
    atoms.wrap()
    write_lammps_data(
        folder / "system.data",
        atoms,
        specorder=["F", "Na"],
        masses=True,
        atom_style="charge",
        units="metal",
    )
    model = (
        charged_model()
        if is_charged
        else random_model(
            "Na F", radial_cutoff=5.0, angular_cutoff=4.0, n_max=(2, 2), basis_size=(4, 4), seed=2
        )
    )
    model.write(str(folder / "nep.txt"))
    return atoms


def automatic(**settings):
    """Keywords of the membership of `electrode_cells.membership`."""
    switch = membership(two_electrodes(), **settings)
    return (
        f"metal Na distances {switch.distances[0]} {switch.distances[1]} "
        f"counts {switch.counts[0]} {switch.counts[1]} "
        f"planes {switch.planes[0]:.17g} plane_width {switch.plane_width}"
    )


@dataclass
class Outcome:
    """Numbers of a run, read before the next run overwrites its files."""

    thermo: np.ndarray  # [steps][columns]
    table: np.ndarray  # [atoms][columns], of the last step


def both_styles(run, script, n_ranks=1, device_script=None):
    """Outcomes with the host style and with the Kokkos style."""
    outcomes = []
    for kokkos in (False, True):
        done = run(device_script or script if kokkos else script, kokkos, n_ranks)
        assert done.status == 0, done.screen
        assert ("full/bin/kk/device" in done.screen) == kokkos  # the list that the style asked for
        outcomes.append(Outcome(done.thermo(), done.table()))
    return outcomes


def assert_same_rows(found, wanted, rounding):
    """Columns of numbers, each relative to its largest."""
    scale = np.maximum(np.abs(wanted).max(axis=0), 1.0)
    np.testing.assert_allclose(found / scale, wanted / scale, rtol=0, atol=rounding)


def assert_same_thermo(found, wanted, rounding):
    """Rows of the thermo output, with the iterations equal to within one.

    Charges are defined to the solver's tolerance: sums in another order, as with another number of threads of the host
    style alone, lead it along another path and now and then to one iteration more. So that tolerance has to be below
    what is compared here.
    """
    np.testing.assert_allclose(found[:, ITERATIONS], wanted[:, ITERATIONS], rtol=0, atol=1)
    assert_same_rows(*(np.delete(rows, ITERATIONS, axis=1) for rows in (found, wanted)), rounding)


SCHEMES = {
    "induced": ("qnep kspace direct", (-1.0, 1.5)),
    "equilibrated": ("qnep", (-2.0, 6.0)),
}


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
@pytest.mark.parametrize("members", ["automatic", "groups"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_electrodes(scheme, members, n_ranks, run, tmp_path):
    """One evaluation: energies, virial, forces, charges, potentials, capacitance and iterations."""
    write_cell(tmp_path, scheme == "induced")
    style, (lower, upper) = SCHEMES[scheme]
    settings = (
        f"{POTENTIALS.format(lower, upper)} {automatic()}"
        if members == "automatic"
        else f"electrode lower charge 0.3 group lower electrode upper potential {upper} group upper"
    )
    script = CELL.format(
        units="metal",
        style=style,
        coefficients="nep.txt F Na",
        scheme=scheme,
        settings=settings,
        motion="",
        steps=0,
        tolerance="1e-12",
    )
    host, device = both_styles(run, script, n_ranks)
    assert_same_thermo(device.thermo, host.thermo, ROUNDING)
    assert_same_rows(device.table, host.table, ROUNDING)
    assert np.abs(host.table[:, 7]).max() > 0.01  # charges of the electrodes
    assert host.thermo[0, ITERATIONS] > 2


def fast_atoms(scheme, tolerance):
    """Twelve steps of fast atoms, one of them within the switch."""
    style, (lower, upper) = SCHEMES[scheme]
    return CELL.format(
        units="metal",
        style=style,
        coefficients="nep.txt F Na",
        scheme=scheme,
        settings=f"{POTENTIALS.format(lower, upper)} {automatic(distances=(3.2, 5.6))}",
        motion="velocity all create 1500 7 mom yes loop geom\nfix motion all nve",
        steps=12,
        tolerance=tolerance,
    )


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_trajectory_with_changing_membership(scheme, n_ranks, run, tmp_path):
    """The solver starts from the charges of earlier steps."""
    atoms = write_cell(tmp_path, scheme == "induced")
    host, device = both_styles(run, fast_atoms(scheme, "1e-10"), n_ranks)
    assert_same_rows(device.table, host.table, 1e-9)
    assert_same_thermo(device.thermo, host.thermo, 1e-9)
    frames = (tmp_path / "atoms.dump").read_text().split("ITEM: ATOMS")
    weights = [
        np.array([float(line.split()[-1]) for line in frame.splitlines()[1 : 1 + len(atoms)]])
        for frame in (frames[1], frames[-1])
    ]
    assert np.abs(weights[1] - weights[0]).max() > 0.01
    total = host.thermo[:, 1]
    assert np.ptp(total) > 0.01


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_same_iterations(scheme, n_ranks, run, tmp_path):
    """With a tolerance far from rounding, on which it would depend otherwise whether one more is done."""
    write_cell(tmp_path, scheme == "induced")
    host, device = both_styles(run, fast_atoms(scheme, "1e-7"), n_ranks)
    np.testing.assert_array_equal(device.thermo[:, ITERATIONS], host.thermo[:, ITERATIONS])


def test_electrodes_below_hybrid_in_real_units(run, tmp_path):
    write_cell(tmp_path)
    style, (lower, upper) = SCHEMES["induced"]
    script = CELL.format(
        units="real",
        style=f"hybrid/overlay {style} lj/cut 6.0",
        coefficients="qnep nep.txt F Na\npair_coeff * * lj/cut 0.01 3.0",
        scheme="induced",
        settings=f"{POTENTIALS.format(lower, upper)} {automatic()}",
        motion="",
        steps=0,
        tolerance="1e-12",
    )
    host, device = both_styles(run, script)
    assert_same_rows(device.table, host.table, ROUNDING)
    assert_same_thermo(device.thermo, host.thermo, ROUNDING)


QUANTITIES = """
units {units}
atom_style charge
newton on
read_data system.data
pair_style qnep kspace {kspace} {keywords}
pair_coeff * * {models} {elements}
{fix}
compute v all qnep/atom {quantities}
dump atoms all custom 1 atoms.dump id fx fy fz q c_v[*]
dump_modify atoms sort id format float %.17g
thermo_style custom step pe {thermo}
thermo_modify format float %.17g norm no
{motion}
"""


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
@pytest.mark.parametrize(("charge_mode", "units"), [(1, "metal"), (2, "real")])
def test_potentials_and_born_charges(charge_mode, units, n_ranks, run, tmp_path):
    write_system(tmp_path, charge_mode=charge_mode)
    script = QUANTITIES.format(
        units=units,
        kspace="direct",
        keywords="",
        models="nep.txt",
        elements=ELEMENTS,
        fix="fix field all qnep/efield 0.1 -0.2 0.3",
        quantities="potential born",
        thermo="f_field[1] f_field[2] f_field[3]",
        motion="run 0",
    )
    host, device = both_styles(run, script, n_ranks)
    assert_same_rows(device.table, host.table, ROUNDING)
    assert_same_rows(device.thermo, host.thermo, 1e-9)
    born = device.table[:, 5:].reshape(-1, 3, 3)
    np.testing.assert_allclose(born.sum(axis=0), 0.0, atol=1e-10)
    assert np.abs(born).max() > 0.1
    assert np.abs(device.table[:, 4]).max() > 0.1


@pytest.mark.parametrize("shape", ["mixed", "l 8", "sizes of the general kernel"])
def test_born_charges_of_all_kernels(shape, run, tmp_path):
    options: dict = {
        "mixed": {},
        "l 8": {"l_max": (8, 2, 1), "n_max": (5, 6)},
        "sizes of the general kernel": {"l_max": (3, 1, 0), "n_max": (6, 3), "basis_size": (10, 5)},
    }[shape]
    write_system(tmp_path, charge_mode=2, **options)
    values = {
        "units": "metal",
        "kspace": "direct",
        "models": "nep.txt",
        "elements": ELEMENTS,
        "fix": "",
        "quantities": "born",
        "thermo": "",
        "motion": "run 0",
    }
    precision = "precision mixed" if shape == "mixed" else ""
    host, device = both_styles(
        run,
        QUANTITIES.format(keywords="", **values),
        device_script=QUANTITIES.format(keywords=precision, **values),
    )
    difference = np.abs(device.table[:, 4:] - host.table[:, 4:]).max()
    if shape == "mixed":
        assert 1e-10 < difference < 1e-4
    else:
        assert difference < ROUNDING


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_quantities_of_a_committee_during_dynamics(n_ranks, run, tmp_path):
    """Those of the first model, also after the other models were evaluated; with a grade on the fly."""
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'qnep[learn]'")
    from qnep.learn import ActiveSet
    from qnep.learn.features import Features

    write_system(tmp_path, 24, (9.0, 9.0, 10.0), 0.0)
    models = [
        random_model(elements, charge_mode=2, radial_cutoff=5.0, seed=seed, energy_scale=0.2)
        for elements, seed in (("Na C O", 1), ("O Na C", 2))
    ]
    for name, model in zip("ab", models):
        model.write(str(tmp_path / f"{name}.txt"))
    from ase.io.lammpsdata import read_lammps_data

    system = read_lammps_data(tmp_path / "system.data", atom_style="charge", units="metal")
    features, symbols = Features(models[0]), np.array(system.get_chemical_symbols())
    known: dict[str, list] = {"Na": [], "C": []}  # oxygen: infinite grade
    for seed in range(20):
        copy = system.copy()
        copy.rattle(0.05, seed=seed)
        vectors = features(copy)
        for element, rows in known.items():
            rows.append(vectors[symbols == element])
    active_set = ActiveSet.fit({element: np.vstack(rows) for element, rows in known.items()})
    active_set.write_for_lammps(tmp_path / "set.txt", models[0])
    script = QUANTITIES.format(
        units="metal",
        kspace="direct",
        keywords="deviation deviation.txt 2 grade set.txt grade.txt 2",
        models="a.txt b.txt",
        elements=ELEMENTS,
        fix="fix field all qnep/efield 0.1 -0.2 0.3",
        quantities="deviation potential born grade",
        thermo="",
        motion="velocity all create 300 7 loop geom\nfix nve all nve\ntimestep 0.0001\nrun 4",
    )
    tables, files = [], []
    for kokkos in (False, True):
        for name in ("grade.txt", "deviation.txt"):
            (tmp_path / name).unlink(missing_ok=True)
        done = run(script, kokkos, n_ranks)
        assert done.status == 0, done.screen
        tables.append(done.table())
        files.append([np.loadtxt(tmp_path / name) for name in ("grade.txt", "deviation.txt")])
    finite = np.isfinite(tables[0])
    np.testing.assert_array_equal(np.isfinite(tables[1]), finite)
    assert not finite[:, -1].all() and finite[:, -1].any()
    np.testing.assert_allclose(tables[1][finite], tables[0][finite], rtol=1e-7, atol=1e-8)
    for found, wanted in zip(files[1], files[0]):
        np.testing.assert_array_equal(wanted[:, 0], [0, 2, 4])
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    # Not those of the second model.
    alone = QNEP(str(tmp_path / "b.txt"), kspace="ewald")
    assert (
        np.abs(
            tables[1][:, 6:15].reshape(-1, 3, 3) - alone.get_born_effective_charges(system)
        ).max()
        > 0.01
    )
