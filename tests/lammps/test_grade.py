"""The extrapolation grade that LAMMPS computes on the fly, against the learner's own."""

from __future__ import annotations

import numpy as np
import pytest
from ase.io.lammpsdata import read_lammps_data
from lammps_scripts import write_data

from qnep import random_model

pytest.importorskip("sklearn", reason="the learner needs scikit-learn: pip install 'qnep[learn]'")

from qnep.learn import ActiveSet
from qnep.learn.features import Features

SCRIPT = """
units metal
atom_style charge
read_data system.data
pair_style qnep kspace direct grade {active_set} grade.txt 5
pair_coeff * * {models} Na C O
velocity all create 300 7
fix dynamics all nve
timestep 0.0001
compute g all qnep/atom grade
dump atoms all custom 5 atoms.dump id x y z c_g
dump_modify atoms sort id format float %.17g
run 10
"""


@pytest.fixture
def model(tmp_path, random_electrolyte):
    """A model, an active set of disturbed copies of the system that leaves out oxygen, and the system itself."""
    model = random_model("O Na C", charge_mode=2, radial_cutoff=5.0, seed=3, energy_scale=0.2)
    model.write(str(tmp_path / "a.txt"))
    system = random_electrolyte(24)
    write_data(tmp_path / "system.data", system, "Na C O")
    features, known = Features(model), {"Na": [], "C": []}
    for seed in range(20):
        copy = system.copy()
        copy.rattle(0.05, seed=seed)
        vectors, symbols = features(copy), np.array(copy.get_chemical_symbols())
        for element, list_of_vectors in known.items():
            list_of_vectors.append(vectors[symbols == element])
    active_set = ActiveSet.fit({element: np.vstack(v) for element, v in known.items()})
    active_set.write_for_lammps(tmp_path / "active_set.txt", model)
    return model, active_set


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_grades_are_those_of_the_learner(n_ranks, model, run_lammps, tmp_path):
    """Oxygen is unknown to the active set: infinite, in the file too."""
    model, active_set = model
    run = run_lammps(SCRIPT.format(active_set="active_set.txt", models="a.txt"), n_ranks=n_ranks)
    assert run.status == 0, run.screen
    rows = run.table()
    atoms = read_lammps_data(tmp_path / "system.data", atom_style="charge", units="metal")
    atoms.positions[:] = rows[:, :3]
    wanted = active_set.grades(Features(model)(atoms), atoms.get_chemical_symbols())
    np.testing.assert_allclose(rows[:, 3], wanted, rtol=1e-6)
    assert np.isinf(wanted).any() and np.isfinite(wanted).any()
    lines = (tmp_path / "grade.txt").read_text().splitlines()
    assert lines[1] == "# step max_grade min_grade mean_grade"
    table = np.loadtxt(tmp_path / "grade.txt")
    np.testing.assert_array_equal(table[:, 0], [0, 5, 10])
    np.testing.assert_allclose(table[-1, 1:3], [wanted.max(), wanted.min()], rtol=1e-6)


def test_broken_and_foreign_active_sets_are_refused(model, run_lammps, tmp_path):
    text = (tmp_path / "active_set.txt").read_text()
    other = random_model("O Na C", charge_mode=2, radial_cutoff=5.0, seed=4, energy_scale=0.2)
    other.write(str(tmp_path / "b.txt"))
    broken = {
        "cut.txt": (text[: len(text) // 2], "wanted"),
        "nan.txt": (text.replace("element C\n", "element C\nnan "), "got 'nan'"),
        "unknown.txt": (
            text.replace("element C\n", "element Xe\n"),
            "wanted an element of the model, got 'Xe'",
        ),
    }
    for name, (content, message) in broken.items():
        (tmp_path / name).write_text(content)
        run = run_lammps(SCRIPT.format(active_set=name, models="a.txt"))
        assert run.status != 0
        assert f"keyword grade: {name}, word" in run.screen
        assert message in run.screen
    run = run_lammps(SCRIPT.format(active_set="active_set.txt", models="b.txt"))
    assert run.status != 0 and "got 'that of another model" in run.screen
    run = run_lammps(SCRIPT.format(active_set="none.txt", models="a.txt"))
    assert "wanted a readable active-set file, got none.txt" in run.screen


def test_compute_needs_the_keyword(model, run_lammps):
    script = SCRIPT.format(active_set="", models="a.txt").replace("grade  grade.txt 5", "")
    run = run_lammps(script)
    assert run.status != 0
    assert "compute qnep/atom grade: wanted the keyword grade of pair_style qnep" in run.screen
