"""The ASE calculators: against other codes, derivatives, symmetries, and ASE's expectations."""

from __future__ import annotations

import concurrent.futures
import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError, get_calculator_class
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from qnep import QNEP, Committee, ModelError, random_model, read_frames

FORMS = {
    "nep3": {"version": 3},
    "nep4 all invariants": {"l_max": (4, 1, 1, 1, 1, 1, 1)},
    "nep5 own cutoffs": {"version": 5, "radial_cutoff": (5.0, 6.0), "angular_cutoff": (3.5, 4.5)},
    "nep4_zbl": {"zbl": (0.9, 2.8)},
    "nep4_charge2": {"charge_mode": 2},
    "nep4_temperature": {"has_temperature": True},
}


def calculator_of(form: str, **settings) -> QNEP:
    """The calculator of a random model; 300 K where it is one of the free energy."""
    model = random_model("Na F", **FORMS[form], seed=1)
    return QNEP(model, temperature=300.0 if model.has_temperature else None, **settings)


def salt(generator: np.random.Generator, n_atoms: int = 24) -> Atoms:
    """A hot, strained and skewed piece of NaF."""
    atoms = bulk("NaF", "rocksalt", a=4.7, cubic=True).repeat((n_atoms // 8, 1, 1))
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + 0.05 * generator.normal(size=(3, 3))), scale_atoms=True
    )
    atoms.rattle(0.15, rng=generator)
    return atoms


@pytest.fixture
def atoms(generator: np.random.Generator) -> Atoms:
    return salt(generator)


# --- other codes ------------------------------------------------------------------------------------------------------


def test_gpumd_trainer_energies_and_charges(shared_data):
    """1e-5 eV/atom and 1e-5 e: the file has six digits of a single-precision result; its charges are the raw ones."""
    folder = shared_data / "qnep_train"
    energies = np.loadtxt(folder / "energy_train.out")[:, 0]
    charges = np.loadtxt(folder / "charge_train.out").reshape(25, 250)
    calculator = QNEP(folder / "nep.txt", kspace="ewald")
    for frame, energy, raw_charges in list(
        zip(read_frames(folder / "train.xyz"), energies, charges)
    )[:4]:
        frame.calc = calculator
        assert frame.get_potential_energy() / 250 == pytest.approx(energy, abs=1e-5)
        expected = raw_charges - raw_charges.mean()
        np.testing.assert_allclose(frame.get_charges(), expected, atol=1e-5)


@pytest.mark.parametrize("kspace", ["pppm", "auto"])
def test_gpumd_forces_and_stress(shared_data, kspace):
    """3e-5 eV/Å and 2e-6 eV/Å³: GPUMD's single precision and its coarser mesh."""
    folder = shared_data / "gpumd_static_qnep"
    frame = read_frames(folder / "dump.xyz")[0]
    forces, stress = frame.get_forces(), frame.get_stress()
    frame.calc = QNEP(shared_data / "qnep_train" / "nep.txt", kspace=kspace)
    np.testing.assert_allclose(frame.get_forces(), forces, atol=3e-5)
    np.testing.assert_allclose(frame.get_stress(), stress, atol=2e-6)


@pytest.mark.parametrize("form", ["nep4 all invariants", "nep4_zbl", "nep4_charge2"])
def test_calorine(form, atoms, tmp_path):
    """1e-9 eV and eV/Å: both compute in double precision, calorine with constants of 15 digits."""
    cpunep = pytest.importorskip("calorine.calculators").CPUNEP
    model = random_model("Na F", **FORMS[form], seed=2)
    model.write(str(tmp_path / "nep.txt"))
    reference = atoms.copy()
    reference.calc = cpunep(str(tmp_path / "nep.txt"))
    atoms.calc = QNEP(model)
    assert atoms.get_potential_energy() == pytest.approx(reference.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(atoms.get_forces(), reference.get_forces(), atol=1e-9)
    np.testing.assert_allclose(atoms.get_stress(), reference.get_stress(), atol=1e-10)


def test_auto_takes_the_mesh_where_the_ewald_sum_refuses(generator):
    """A cell of 330 Å has more reciprocal vectors than fit; also after a small one, whose choice is kept otherwise."""
    model = random_model("Na F", charge_mode=2, seed=1)
    pair = Atoms("NaF", positions=[[0, 0, 0], [0, 0, 2.3]], cell=[20.0] * 3, pbc=True)
    calculator = QNEP(model, precision="single", accuracy=1e-2)  # a mesh of a few seconds
    small = calculator.get_forces(pair)
    pair.set_cell([330.0] * 3)
    forces = calculator.get_forces(pair)
    np.testing.assert_allclose(forces, small, atol=1e-2)  # of images at 20 Å
    with pytest.raises(ValueError, match="too many reciprocal vectors"):
        QNEP(model, kspace="ewald").get_forces(pair)


# --- derivatives and sums ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_forces_and_stress_are_derivatives(form, generator):
    """Central differences with 1e-4 Å: errors of 1e-8 of the third derivative, and of rounding, 1e-10."""
    atoms = salt(generator, 8)
    atoms.calc = calculator_of(form, kspace="ewald")
    numerical = calculate_numerical_forces(atoms, eps=1e-4, iatoms=[0, 5])
    np.testing.assert_allclose(atoms.get_forces()[[0, 5]], numerical, atol=1e-6)
    numerical = calculate_numerical_stress(atoms, eps=1e-5)
    np.testing.assert_allclose(atoms.get_stress(), numerical, atol=1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_sums_over_atoms(form, atoms):
    """Rounding of sums over 24 atoms."""
    calculator = atoms.calc = calculator_of(form)
    assert atoms.get_potential_energies().sum() == pytest.approx(
        atoms.get_potential_energy(), abs=1e-11
    )
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.get_stresses().sum(axis=0), atoms.get_stress(), atol=1e-13)
    total = calculator.get_virials(atoms).sum(axis=0)
    np.testing.assert_allclose(
        -total / atoms.get_volume(), atoms.get_stress(voigt=False), atol=1e-12
    )
    np.testing.assert_allclose(atoms.get_forces().sum(axis=0), 0.0, atol=1e-11)


@pytest.mark.parametrize("total_charge", [0.0, 1.5])
def test_charges_and_born_charges(atoms, total_charge):
    """Acoustic sum rule: the Born charges sum to sqrt(epsilon) times the total charge."""
    model = random_model("Na F", charge_mode=2, seed=4)
    calculator = atoms.calc = QNEP(model, total_charge=total_charge)
    assert atoms.get_charges().sum() == pytest.approx(total_charge, abs=1e-12)
    sqrt_epsilon = model.parameters[model.sqrt_epsilon_offset]
    np.testing.assert_allclose(
        calculator.get_born_effective_charges(atoms).sum(axis=0),
        sqrt_epsilon * total_charge * np.eye(3),
        atol=1e-12,
    )


def test_the_mean_correction_matters(atoms):
    """Without it the forces of a qNEP are not the gradient of the energy."""
    model = random_model("Na F", charge_mode=2, seed=4)
    atoms.calc = QNEP(model, mean_correction=False)
    numerical = calculate_numerical_forces(atoms, eps=1e-4, iatoms=[0])
    assert np.abs(atoms.get_forces()[0] - numerical).max() > 1e-4


def test_single_precision_is_close(atoms):
    """Seven digits in descriptors and networks: 1e-4 eV/Å on forces of order one."""
    model = random_model("Na F", charge_mode=2, seed=4)
    double, single = QNEP(model), QNEP(model, precision="single")
    difference = double.get_forces(atoms) - single.get_forces(atoms)
    assert 0.0 < np.abs(difference).max() < 1e-4


# --- symmetries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["nep4 all invariants", "nep4_charge2"])
def test_symmetries(form, atoms, generator):
    """Rotation, translation, permutation, wrapping, another basis of the lattice: rounding only."""
    calculator = QNEP(random_model("Na F", **FORMS[form], seed=1), kspace="ewald")
    energy, forces = calculator.get_potential_energy(atoms), calculator.get_forces(atoms)
    rotation = np.linalg.qr(generator.normal(size=(3, 3)))[0]  # proper or improper
    moved = atoms.copy()
    moved.set_cell(moved.cell.array @ rotation)
    moved.positions = atoms.positions @ rotation + generator.normal(size=3) * 10.0
    order = generator.permutation(len(atoms))
    moved = moved[order]
    moved.wrap()
    moved.set_cell(np.array([[1, 1, 0], [0, 1, 0], [0, -2, 1]]) @ moved.cell.array)
    assert calculator.get_potential_energy(moved) == pytest.approx(energy, abs=1e-9)
    np.testing.assert_allclose(calculator.get_forces(moved), (forces @ rotation)[order], atol=1e-9)


@pytest.mark.parametrize("form", ["nep4_zbl", "nep4_charge2"])
def test_supercell(form, atoms):
    """The same energy per atom. For charges exactly so too: the k vectors of the cell are among the supercell's."""
    calculator = QNEP(random_model("Na F", **FORMS[form], seed=1), kspace="ewald")
    energy = calculator.get_potential_energy(atoms)
    assert calculator.get_potential_energy(atoms.repeat((1, 2, 2))) == pytest.approx(
        4 * energy, abs=1e-9
    )


def test_a_molecule_needs_no_cell():
    """Open boundaries equal a cell wide enough that no image is seen."""
    calculator = QNEP(random_model("C H O", seed=5))
    free = molecule("CH3CH2OH")
    boxed = free.copy()
    boxed.center(vacuum=8.0)
    boxed.pbc = True
    np.testing.assert_allclose(
        calculator.get_forces(free), calculator.get_forces(boxed), atol=1e-12
    )
    with pytest.raises(PropertyNotImplementedError):
        calculator.get_stress(free)


def test_a_slab_may_be_open_along_its_normal(atoms):
    calculator = QNEP(random_model("Na F", seed=5))
    atoms.center(vacuum=7.0, axis=2)
    closed = calculator.get_forces(atoms)
    atoms.pbc = (True, True, False)
    np.testing.assert_allclose(calculator.get_forces(atoms), closed, atol=1e-12)


def test_charges_need_a_periodic_cell(atoms):
    calculator = QNEP(random_model("Na F", charge_mode=1))
    atoms.pbc = (True, True, False)
    with pytest.raises(ValueError, match=r"periodic in all three .* atoms.center\(vacuum="):
        calculator.get_potential_energy(atoms)


# --- what ASE expects -------------------------------------------------------------------------------------------------


def test_the_neighbour_list_is_reused_and_energy_conserved(atoms):
    """50 fs at 300 K with 0.5 fs: the list is built rarely; drift far below kT per atom."""
    atoms.calc = QNEP(random_model("Na F", zbl=(0.9, 2.8), energy_scale=0.2, seed=1))
    thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(1))
    start = atoms.get_total_energy()
    VelocityVerlet(atoms, 0.5 * units.fs).run(100)
    assert abs(atoms.get_total_energy() - start) / len(atoms) < 1e-4
    assert atoms.calc._neighbors.n_builds < 20
    fresh = QNEP(atoms.calc.model, skin=0.0)
    np.testing.assert_allclose(fresh.get_forces(atoms), atoms.get_forces(), atol=1e-11)


def test_results_are_kept_until_atoms_change(atoms):
    calculator = atoms.calc = QNEP(random_model("Na F", charge_mode=2))
    forces = atoms.get_forces()
    assert atoms.get_forces() is not None
    assert not calculator.calculation_required(atoms, ["energy", "forces", "stress", "charges"])
    atoms.set_initial_charges(np.ones(len(atoms)))
    assert not calculator.calculation_required(atoms, ["energy"])
    atoms.positions[0, 0] += 0.01
    assert calculator.calculation_required(atoms, ["energy"])
    assert np.abs(atoms.get_forces() - forces).max() > 1e-6
    calculator.set(total_charge=1.0)
    assert atoms.get_charges().sum() == pytest.approx(1.0)


def test_other_atoms_on_the_same_places(atoms):
    """Exchanging elements without moving anything changes the types of the list."""
    calculator = QNEP(random_model("Na F", seed=6))
    energy = calculator.get_potential_energy(atoms)
    exchanged = atoms.copy()
    exchanged.numbers = np.where(atoms.numbers == 9, 11, 9)
    fresh = QNEP(calculator.model)
    assert calculator.get_potential_energy(exchanged) == fresh.get_potential_energy(exchanged)
    assert calculator.get_potential_energy(exchanged) != pytest.approx(energy)


@pytest.mark.parametrize("make", [QNEP, lambda model: Committee([model, model])])
def test_a_direct_calculation_drops_the_results_of_other_atoms(atoms, make):
    """ASE's own calls reset the calculator before; those of other programs need not."""
    calculator = make(random_model("Na F", charge_mode=2, seed=4))
    calculator.calculate(atoms, ["born_effective_charges"])
    calculator.calculate(atoms, ["virials"])
    assert {"born_effective_charges", "virials"} <= set(calculator.results)
    moved = atoms.copy()
    moved.rattle(0.2, seed=3)
    calculator.calculate(moved, ["energy"])
    assert not {"born_effective_charges", "virials"} & set(calculator.results)
    expected = QNEP(random_model("Na F", charge_mode=2, seed=4)).get_born_effective_charges(moved)
    np.testing.assert_allclose(calculator.get_born_effective_charges(moved), expected, atol=1e-11)


def test_another_element_after_a_refused_geometry(atoms):
    """The neighbour list is still that of the first atoms; to 1e-10, as a fresh one has the pairs in other order."""
    calculator = QNEP(random_model("Na F", seed=6))
    calculator.get_forces(atoms)
    coincident = atoms.copy()
    coincident.positions[1] = coincident.positions[0]
    with pytest.raises(ValueError, match="stand at one place"):
        calculator.get_forces(coincident)
    exchanged = atoms.copy()
    exchanged.numbers[0] = 20 - exchanged.numbers[0]  # Na for F or F for Na
    exchanged.positions += 0.01
    fresh = QNEP(calculator.model)
    np.testing.assert_allclose(
        calculator.get_forces(exchanged), fresh.get_forces(exchanged), atol=1e-10
    )


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda calc: pickle.loads(pickle.dumps(calc))]
)
def test_copies_and_pickles(atoms, duplicate, tmp_path):
    """The copy needs no file, and nothing that is done to it shows in the original."""
    path = tmp_path / "nep.txt"
    random_model("Na F", charge_mode=2).write(str(path))
    for calculator in (QNEP(path, total_charge=1.0), Committee([path, path], skin=1.0)):
        forces = calculator.get_forces(atoms)
        other = duplicate(calculator)
        assert other.parameters == calculator.parameters
        atoms.rattle(0.01, seed=1)
        np.testing.assert_allclose(
            other.get_forces(atoms), calculator.get_forces(atoms), atol=1e-11
        )
        assert np.abs(other.get_forces(atoms) - forces).max() > 0.0
        moved = atoms.copy()
        moved.rattle(0.1, seed=2)
        expected = other.get_forces(moved)
        np.testing.assert_allclose(calculator.get_forces(moved), expected, atol=1e-11)
        other.set(total_charge=0.5)
        np.testing.assert_allclose(calculator.get_forces(moved), expected, atol=1e-11)


def test_dictionaries(atoms, tmp_path):
    """Through JSON, from a path and from memory."""
    path = tmp_path / "nep.txt"
    model = random_model("Na F", charge_mode=2)
    model.write(str(path))
    for source in (path, model):
        calculator = QNEP(source, total_charge=1.0)
        settings = json.loads(json.dumps(calculator.todict()))
        assert settings["total_charge"] == 1.0
        assert "skin" not in settings
        other = QNEP.fromdict(settings)
        assert other.get_potential_energy(atoms) == calculator.get_potential_energy(atoms)
    committee = Committee([path, model])
    other = Committee.fromdict(json.loads(json.dumps(committee.todict())))
    np.testing.assert_array_equal(other.get_forces(atoms), committee.get_forces(atoms))


def test_ase_finds_the_calculator(atoms, tmp_path):
    path = tmp_path / "nep.txt"
    random_model("Na F").write(str(path))
    calculator = get_calculator_class("qnep")(model=path)
    assert isinstance(calculator, QNEP)
    assert np.isfinite(calculator.get_potential_energy(atoms))


def test_descriptors(atoms):
    """Equal environments have equal descriptors; an atom alone has none."""
    calculator = QNEP(random_model("Na F", seed=1))
    perfect = bulk("NaF", "rocksalt", a=4.7, cubic=True)
    descriptors = calculator.get_descriptors(perfect)
    assert descriptors.shape == (8, calculator.model.n_descriptors)
    for number in (9, 11):
        chosen = descriptors[perfect.numbers == number]
        np.testing.assert_allclose(chosen, chosen[:1].repeat(4, axis=0), atol=1e-12)
    np.testing.assert_array_equal(calculator.get_descriptors(Atoms("Na")), 0.0)


@pytest.mark.parametrize("version", [3, 4])
def test_dipole_and_polarizability(version, generator):
    """A dipole turns with the molecule, a polarizability as a tensor; neither has an energy."""
    rotation = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    water = molecule("H2O")
    turned = water.copy()
    turned.positions = water.positions @ rotation
    dipole = QNEP(random_model("H O", kind="dipole", version=version))
    np.testing.assert_allclose(
        dipole.get_dipole_moment(turned), dipole.get_dipole_moment(water) @ rotation, atol=1e-12
    )
    polarizability = QNEP(random_model("H O", kind="polarizability", version=version))
    tensor = polarizability.get_polarizability(water)
    np.testing.assert_allclose(
        polarizability.get_polarizability(turned), rotation.T @ tensor @ rotation, atol=1e-11
    )
    for calculator in (dipole, polarizability):
        with pytest.raises(PropertyNotImplementedError):
            calculator.get_potential_energy(water)


# --- committees -------------------------------------------------------------------------------------------------------


def test_a_committee_is_the_mean_of_its_members(atoms):
    """Members may differ in cutoffs and in the order of elements."""
    models = [
        random_model("Na F", charge_mode=2, seed=1),
        random_model("F Na", charge_mode=2, seed=2, radial_cutoff=5.0),
        random_model("Na F C", charge_mode=1, seed=3),
    ]
    members = [QNEP(model) for model in models]
    committee = Committee(models)
    forces = np.array([member.get_forces(atoms) for member in members])
    np.testing.assert_allclose(committee.get_forces(atoms), forces.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(committee.get_forces_std(atoms), forces.std(axis=0), atol=1e-12)
    np.testing.assert_allclose(committee.results["member_forces"], forces, atol=1e-12)
    energies = [member.get_potential_energy(atoms) for member in members]
    assert committee.get_potential_energy(atoms) == pytest.approx(np.mean(energies))
    assert committee.results["energy_std"] == pytest.approx(np.std(energies))
    charges = np.mean([member.get_charges(atoms) for member in members], axis=0)
    np.testing.assert_allclose(committee.get_charges(atoms), charges, atol=1e-12)
    for name in ("get_virials", "get_born_effective_charges"):
        mean = np.mean([getattr(member, name)(atoms) for member in members], axis=0)
        np.testing.assert_allclose(getattr(committee, name)(atoms), mean, atol=1e-12)


def test_equal_members_do_not_scatter(atoms):
    model = random_model("Na F", seed=1)
    np.testing.assert_array_equal(Committee([model, model]).get_forces_std(atoms), 0.0)


@pytest.mark.parametrize(
    ("models", "text"),
    [
        ([{}], "at least two models"),
        ([{}, {"charge_mode": 2}], "all with or all without charges, got nep4, nep4_charge2"),
        ([{"kind": "dipole"}, {"kind": "dipole"}], "needs potentials"),
    ],
)
def test_committees_that_cannot_be(models, text):
    with pytest.raises(ValueError, match=text):
        Committee([random_model("Na F", **settings) for settings in models])


# --- wrong input ------------------------------------------------------------------------------------------------------


def test_wrong_atoms(atoms):
    calculator = QNEP(random_model("Na F"))
    with pytest.raises(ValueError, match="knows the elements Na F, got O Cl"):
        calculator.get_forces(Atoms("NaClO", positions=np.eye(3) * 3))
    with pytest.raises(ValueError, match="no atoms"):
        calculator.get_forces(Atoms())
    flat = atoms.copy()
    flat.cell[2] = flat.cell[0]
    with pytest.raises(ValueError, match="needs a volume"):
        calculator.get_forces(flat)
    atoms.positions[3] = atoms.positions[7]
    with pytest.raises(ValueError, match="stand at one place"):
        calculator.get_forces(atoms)
    atoms.positions[3] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        calculator.get_forces(atoms)


def test_two_atoms_meet_within_the_skin():
    """The list was built when they were apart, so it does not notice; the evaluation must."""
    calculator = QNEP(random_model("Na F"), skin=1.0)
    pair = Atoms("NaF", positions=[[0, 0, 0], [0, 0, 0.4]])
    calculator.get_forces(pair)
    pair.positions[1, 2] = 0.0
    with pytest.raises(ValueError, match=r"place|close"):
        calculator.get_forces(pair)


def test_a_failure_leaves_no_results_of_other_atoms():
    pair = Atoms("NaF", positions=[[0, 0, 0], [0, 0, 2.0]])
    calculator = QNEP(random_model("Na F"))
    calculator.get_forces(pair)
    pair.positions[1, 2] = np.nan
    with pytest.raises(ValueError, match="finite"):
        calculator.calculate(pair, ["forces"])
    with pytest.raises(ValueError, match="finite"):
        calculator.get_forces(pair)


def test_wrong_numbers_of_elements(atoms):
    calculator = QNEP(random_model("Na F"))
    calculator.get_forces(atoms)
    for number, name in ((200, "the atomic number 200"), (-11, "the atomic number -11"), (0, "X")):
        atoms.numbers[0] = number
        with pytest.raises(ValueError, match=f"knows the elements Na F, got {name}"):
            calculator.get_forces(atoms)


@pytest.mark.parametrize("form", ["nep4_zbl", "nep4_charge2"])
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"precision": "half"}, "precision must be double or single, got 'half'"),
        ({"kspace": "bogus"}, "kspace must be auto, ewald or pppm, got 'bogus'"),
        ({"kspace": np.array(["auto", "ewald"])}, "kspace must be auto"),
        ({"simd": "mmx"}, "simd must be auto, .*, got 'mmx'"),
        ({"accuracy": 0.0}, "accuracy must be a positive number, eV/Å, got 0"),
        ({"accuracy": np.nan}, "accuracy must be a positive number, eV/Å, got nan"),
        ({"total_charge": np.inf}, "total_charge must be a finite number, e, got inf"),
        ({"total_charge": "1"}, "total_charge must be a finite number, e, got '1'"),
        ({"n_threads": 1.5}, "n_threads must be a whole number from 1 to 1024, got 1.5"),
        ({"n_threads": 0}, "n_threads must be a whole number from 1 to 1024, got 0"),
        ({"n_threads": 10**12}, "n_threads must be a whole number from 1 to 1024"),
        ({"mean_correction": "no"}, "mean_correction must be True or False, got 'no'"),
        ({"skin": -1.0}, "skin must be a finite number that is not negative, Å, got -1"),
        ({"temperature": np.nan}, "temperature must be None or a finite number"),
        ({"temperature": -5.0}, "temperature must be None or .* not negative, K, got -5"),
        ({"temperature": 300.0}, "is for models of the free energy, got 300 K for nep4"),
    ],
)
def test_settings_that_cannot_be(form, settings, text, atoms):
    """Refused by the constructor and by `set`, after which the calculator is as it was."""
    with pytest.raises(ValueError, match=text):
        QNEP(random_model("Na F", **FORMS[form]), **settings)
    calculator = calculator_of(form)
    energy, parameters = calculator.get_potential_energy(atoms), dict(calculator.parameters)
    with pytest.raises(ValueError, match=text):
        calculator.set(**({"total_charge": 1.0, "n_threads": 2} | settings))
    assert dict(calculator.parameters) == parameters
    assert calculator.get_potential_energy(atoms) == pytest.approx(energy, abs=1e-11)
    assert copy.deepcopy(calculator).get_potential_energy(atoms) == pytest.approx(energy)


def test_settings_of_numpy(atoms):
    settings = {
        "n_threads": np.int64(2), "total_charge": np.float32(1.0), "skin": 1, "accuracy": np.float64(1e-4)
    }  # fmt: skip
    calculator = QNEP(random_model("Na F", charge_mode=2), **settings)
    assert calculator.get_charges(atoms).sum() == pytest.approx(1.0)


def test_set_knows_only_settings(atoms, tmp_path):
    """A model is none: what is already evaluated would go by its name."""
    calculator = QNEP(random_model("Na F"))
    for name in ("model", "Total_charge", "label", "parameters"):
        with pytest.raises(TypeError, match=f"no setting {name}; it knows total_charge"):
            calculator.set(**{name: tmp_path / "nep.txt"})
    assert calculator.set(skin=1.0) == {}
    assert calculator.set(skin=0.5) == {"skin": 0.5}


def test_a_model_of_the_free_energy_needs_a_temperature(atoms):
    calculator = QNEP(random_model("Na F", has_temperature=True, seed=1))
    for call in (calculator.get_potential_energy, calculator.get_descriptors):
        with pytest.raises(ValueError, match=r"nep4_temperature .* needs a temperature in K"):
            call(atoms)
    calculator.set(temperature=300.0)
    energy = calculator.get_potential_energy(atoms)
    assert energy == calculator_of("nep4_temperature").get_potential_energy(atoms)
    calculator.set(temperature=0.0)
    assert calculator.get_potential_energy(atoms) != pytest.approx(energy)
    QNEP(
        random_model("Na F"), temperature=0.0
    )  # the default of older versions, which files may hold


def test_the_model_is_the_calculators_own(atoms):
    """Changes to the caller's, or to what the calculator hands out, do not come through when settings change."""
    model = random_model("Na F", seed=1)
    calculator, committee = QNEP(model), Committee([model, model])
    energy = calculator.get_potential_energy(atoms)
    for one in (model, calculator.model, committee.models[0]):
        one.parameters = one.parameters * 1.1
    for one in (calculator, committee):
        one.set(skin=0.5)
        assert one.get_potential_energy(atoms) == pytest.approx(energy, abs=1e-11)


# --- threads and processes --------------------------------------------------------------------------------------------


def test_one_calculator_for_several_threads(generator):
    """Each thread gets the results of its own atoms; evaluations at the same time would spoil each other's memory."""
    model = random_model("Na F", charge_mode=2, seed=1)
    frames = [salt(generator, 48) for _ in range(6)]
    fresh = [QNEP(model) for _ in frames]
    expected = [
        (one.get_forces(frame), one.get_descriptors(frame)) for one, frame in zip(fresh, frames)
    ]
    calculator = QNEP(model)

    def work(k: int) -> float:
        forces, descriptors = (
            calculator.get_forces(frames[k]),
            calculator.get_descriptors(frames[k]),
        )
        error = max(
            np.abs(forces - expected[k][0]).max(), np.abs(descriptors - expected[k][1]).max()
        )
        return max(error, np.abs(calculator.evaluate(frames[k])["forces"] - expected[k][0]).max())

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert max(pool.map(work, list(range(6)) * 10)) < 1e-10


def test_a_forked_child_after_a_parent_with_threads(tmp_path):
    """OpenMP's threads are not copied by a fork, so waiting for them would take for ever."""
    random_model("Na F", charge_mode=2, seed=1).write(tmp_path / "nep.txt")
    script = (
        "import multiprocessing, sys\n"
        "from ase.build import bulk\n"
        "from qnep import QNEP\n"
        "atoms = bulk('NaF', 'rocksalt', a=4.7, cubic=True) * 2\n"
        "atoms.rattle(0.05, seed=1)\n"
        "def energy(kspace):\n"
        "    calculator = QNEP(sys.argv[1], n_threads=2, kspace=kspace)\n"
        "    return calculator.get_potential_energy(atoms)\n"
        "names = ['ewald', 'pppm']\n"
        "expected = [energy(name) for name in names]\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "    found = pool.map_async(energy, names).get(timeout=60)\n"
        "assert all(abs(a - b) < 1e-9 for a, b in zip(found, expected)), (found, expected)\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "nep.txt")],
        check=True,
        timeout=120,
        capture_output=True,
    )


def test_wrong_settings(tmp_path):
    with pytest.raises(TypeError, match="no setting totalcharge; it knows total_charge, kspace"):
        QNEP(random_model("Na F"), totalcharge=1.0)
    with pytest.raises(ModelError, match=r"missing\.txt"):
        QNEP(tmp_path / "missing.txt")
