"""The engine against results of other codes: files of GPUMD (marked by their folder) and calorine's evaluation.

Figures of both codes and what they can agree to: GPUMD evaluates in single precision and prints 6 to 8 digits.
"""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from systems import ELEMENTS, random_system, small_model

from qnep import QNEP, Model
from qnep.io import read_frames


@pytest.fixture(scope="module")
def lead_telluride(shared_data):
    return read_frames(shared_data / "qnep_train" / "train.xyz")


def frame_slices(frames):
    stops = np.cumsum([len(frame) for frame in frames])
    return [slice(stop - len(frame), stop) for stop, frame in zip(stops, frames)]


@pytest.mark.parametrize("folder", ["nep_train", "qnep_train"])
def test_training_output_of_gpumd(folder, shared_data, lead_telluride):
    """Energies, charges and, made before the mean correction, forces of 25 frames of PbTe."""
    energies = np.loadtxt(shared_data / folder / "energy_train.out")[:, 0]
    forces = np.loadtxt(shared_data / folder / "force_train.out")[:, :3]
    is_charged = folder == "qnep_train"
    charges = np.loadtxt(shared_data / folder / "charge_train.out") if is_charged else None
    calculator = QNEP(shared_data / folder / "nep.txt", kspace="ewald", mean_correction=False)
    for atoms, energy, rows in zip(lead_telluride, energies, frame_slices(lead_telluride)):
        calculator.calculate(atoms, ["energy", "forces"])
        results = calculator.results
        assert results["energy"] / len(atoms) == pytest.approx(energy, abs=1e-5)
        assert np.abs(results["forces"] - forces[rows]).max() < 3e-5
        if is_charged:
            raw = charges[rows]  # the file lists charges before they are made neutral
            assert np.abs(results["charges"] - (raw - raw.mean())).max() < 1e-5


@pytest.mark.parametrize("kspace", ["ewald", "pppm"])
def test_dynamics_output_of_gpumd(kspace, shared_data):
    """One step with GPUMD's particle mesh and the mean correction."""
    folder = shared_data / "gpumd_static_qnep"
    (atoms,) = read_frames(folder / "model.xyz")
    (reference,) = read_frames(folder / "dump.xyz")
    atoms.calc = QNEP(shared_data / "qnep_train" / "nep.txt", kspace=kspace)
    forces = reference.arrays["force"] if "force" in reference.arrays else reference.get_forces()
    assert np.abs(atoms.get_forces() - forces).max() < 3e-5


def calorine_results(model_file, atoms):
    calculators = pytest.importorskip("calorine.calculators")
    atoms = atoms.copy()
    atoms.calc = calculators.CPUNEP(str(model_file))
    return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)


def assert_equals_calorine(model_file, atoms):
    energy, forces, stress = calorine_results(model_file, atoms)
    atoms = atoms.copy()
    atoms.calc = QNEP(model_file, kspace="ewald")
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-9)
    assert np.abs(atoms.get_forces() - forces).max() < 1e-9
    assert np.abs(atoms.get_stress(voigt=False) - stress).max() < 1e-10


@pytest.mark.parametrize("charge_mode", [0, 1, 2])
@pytest.mark.parametrize("l_max", [(4, 2, 1), (4, 2, 0), (4, 0, 0), (3, 0, 0)])
def test_random_models_equal_calorine(l_max, charge_mode, tmp_path, generator):
    """Both in double precision. Its Ewald sum takes 6.2831853 for 2 pi: below 1e-9 here."""
    model = small_model(6, charge_mode=charge_mode, l_max=l_max, charge_scale=0.2)
    model.write(str(tmp_path / "nep.txt"))
    cell = np.array([[9.5, 0.2, 0.1], [1.1, 8.9, -0.3], [-0.6, 0.4, 9.2]])
    types, positions = random_system(cell, 40, 6, generator)
    atoms = Atoms([ELEMENTS[t] for t in types], positions, cell=cell, pbc=True)
    assert_equals_calorine(tmp_path / "nep.txt", atoms)


@pytest.mark.parametrize(
    ("name", "crystal"),
    [
        ("C_2024_NEP4.txt", bulk("C", "diamond", cubic=True)),
        ("Si_2022_NEP4_5body.txt", bulk("Si")),
        ("UNEP_v1_2024_NEP4_ZBL.txt", bulk("Cu", cubic=True) * 2),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_published_models_equal_calorine(name, crystal, shared_data, generator):
    atoms = crystal.copy()
    if name.startswith("UNEP"):
        atoms.symbols = generator.choice(["Ag", "Al", "Cu", "W", "Zr"], len(atoms))
    atoms.rattle(0.3, rng=generator)
    assert_equals_calorine(shared_data / "models" / name, atoms)


@pytest.mark.parametrize(
    "name",
    ["C_2022_NEP3.txt", "C_2024_NEP4.txt", "MoWSe_NEP3.txt", "UNEP_v1_2024_NEP4_ZBL.txt"],
)
def test_published_files_survive_writing(name, shared_data, tmp_path):
    path = shared_data / "models" / name
    model = Model.read(str(path))
    model.write(str(tmp_path / name))
    again = Model.read(str(tmp_path / name))
    assert again.token == model.token
    assert np.array_equal(again.parameters, model.parameters)
