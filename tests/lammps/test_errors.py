"""Every wrong input ends on all ranks with a sentence that says what was wanted and what came."""

from __future__ import annotations

import re

import numpy as np
import pytest
from lammps_scripts import write_data

from qnep import random_model

pytestmark = pytest.mark.mpi

SCRIPT = """
units {units}
atom_style {atom_style}
boundary {boundary}
newton {newton}
{before}
read_data system.data
pair_style {style}
{between}
pair_coeff {coefficients}
{after}
run 0
"""

DEFAULTS = {
    "units": "metal",
    "atom_style": "charge",
    "boundary": "p p p",
    "newton": "on",
    "before": "",
    "style": "qnep",
    "between": "",
    "coefficients": "* * nep.txt Na C O",
    "after": "",
}

WRONG_KEYWORDS = {
    "qnep cspace pppm 1e-5": "unknown keyword cspace, wanted one of: charge,",
    "qnep kspace": "keyword kspace: wanted pppm ACCURACY, ewald ACCURACY or direct, got nothing",
    "qnep kspace msm 1e-5": "keyword kspace: wanted pppm ACCURACY, ewald ACCURACY or direct, got msm",
    "qnep kspace pppm": "keyword kspace: wanted an accuracy between 1e-12 and 0.1, got nothing",
    "qnep kspace pppm fine": "keyword kspace: wanted an accuracy between 1e-12 and 0.1, got fine",
    "qnep kspace pppm -1e-5": "keyword kspace: wanted an accuracy between 1e-12 and 0.1, got -1e-5",
    "qnep slab 0.5": "keyword slab: wanted a factor of at least 1.5",
    "qnep charge nan": "keyword charge: wanted a total charge in e, got nan",
    "qnep order 9": "keyword order: wanted an order from 2 to 7, got 9",
    "qnep mesh 8 8": "keyword mesh: wanted three numbers of mesh points between 2 and 8192, got nothing",
    "qnep mean_correction maybe": "keyword mean_correction: wanted yes or no, got maybe",
    "qnep deviation": "keyword deviation: wanted a file name and an interval in steps, got nothing",
    "qnep deviation f.txt 0": "keyword deviation: wanted an interval of at least 1 step, got 0",
    "qnep temperature -3": "keyword temperature: wanted a temperature in K, not negative, got -3",
    "qnep precision half": "keyword precision: wanted double or single, got half",
    "qnep slab 3 charge 1": "slab wants a neutral system, got charge 1",
    "qnep slab 3 kspace direct": "slab wants kspace pppm or ewald, got kspace direct",
    "qnep kspace ewald 1e-5 order 5": "order and mesh want kspace pppm",
    "qnep deviation f.txt 10": "keyword deviation: wanted at least two model files in pair_coeff, got one",
}

WRONG_SYSTEMS = {
    "missing model": (
        {"coefficients": "* * none.txt Na C O"},
        "wanted a readable model file, got none.txt",
    ),
    "cut model": ({"coefficients": "* * cut.txt Na C O"}, "cut.txt"),
    "no model at all": ({"coefficients": "* * empty.txt Na C O"}, "empty.txt"),
    "dipole model": (
        {"coefficients": "* * dipole.txt Na C O"},
        "wanted a model of an energy, got dipole.txt",
    ),
    "model of the free energy without a temperature": (
        {"coefficients": "* * free.txt Na C O"},
        "wanted the keyword temperature (K) for free.txt, a model of the free energy (nep4_temperature), got none",
    ),
    "model of the free energy among others without a temperature": (
        {"coefficients": "* * plain.txt free.txt Na C O"},
        "wanted the keyword temperature (K) for free.txt",
    ),
    "temperature for models that ask for none": (
        {"style": "qnep temperature 0", "coefficients": "* * plain.txt nep.txt Na C O"},
        "keyword temperature: wanted a model of the free energy, got plain.txt (nep4) nep.txt (nep4_charge2)",
    ),
    "too few elements": (
        {"coefficients": "* * nep.txt Na"},
        "at least one model file and 3 element(s), one for each atom type (or NULL), got 4 argument(s)",
    ),
    "unknown element": (
        {"coefficients": "* * nep.txt Na C Xe"},
        "wanted an element of nep.txt (Na C O) for atom type 3, got Xe",
    ),
    "no charges": (
        {"atom_style": "atomic"},
        "wanted an atom style with charges (atom_style charge)",
    ),
    "newton off": ({"newton": "off"}, "wanted newton on, got newton off"),
    "units": ({"units": "lj"}, "wanted units metal or real, got units lj"),
    "free surface": (
        {"boundary": "p p f"},
        "wanted boundary p p p for a qNEP model without the keyword slab",
    ),
    "slab in a periodic box": (
        {"style": "qnep slab 3"},
        "wanted boundary p p f for a qNEP model with",
    ),
    "second k-space": (
        {"after": "set type 1 charge 0.1\nset type 2 charge -0.1\nkspace_style pppm 1e-5"},
        "brings its own k-space solver (keyword kspace): wanted kspace_style none",
    ),
    "k-space for a model without charges": (
        {
            "coefficients": "* * plain.txt Na C O",
            "after": "set type 1 charge 0.1\nset type 2 charge -0.1\nkspace_style pppm 1e-5",
        },
        "KSpace style is incompatible with Pair style",
    ),
    "second pair_style without pair_coeff": (
        {"after": "run 0\npair_style qnep kspace direct"},
        "pair coeffs are not set",
    ),
    "field in rRESPA": (
        {"after": "fix e all qnep/efield 0 0 1\nrun_style respa 2 2 pair 2"},
        "fix qnep/efield: wanted run_style verlet, got respa",
    ),
    "field where a model without charges drives": (
        {
            "coefficients": "* * plain.txt nep.txt Na C O",
            "after": "fix e all qnep/efield 0 0 1",
        },
        "fix qnep/efield: wanted a qNEP model to drive the run (the first of pair_coeff)",
    ),
    "Born charges where a model without charges drives": (
        {
            "coefficients": "* * plain.txt nep.txt Na C O",
            "after": "compute v all qnep/atom born\ndump v all custom 1 v.dump c_v[*]",
        },
        "potential and born: wanted a qNEP model to drive the run (the first of pair_coeff)",
    ),
    "pair_coeff of one type": (
        {"coefficients": "1 1 nep.txt Na C O"},
        "Pair_coeff must start with * * for pair style qnep",
    ),
    "group to group": (
        {"after": "compute pull all group/group all\nthermo_style custom step c_pull"},
        "Pair style does not support compute group/group",
    ),
    "quantity of the compute": (
        {"after": "compute v all qnep/atom field"},
        "compute qnep/atom: wanted potential, born, deviation or grade, got field",
    ),
    "deviation of one model": (
        {"after": "compute v all qnep/atom deviation\ndump v all custom 1 v.dump c_v"},
        "compute qnep/atom deviation: wanted at least two model files",
    ),
    "field components": (
        {"after": "fix e all qnep/efield 0 0"},
        "fix qnep/efield: wanted three field components in V/Angstrom, got 2 argument(s)",
    ),
    "another pair style": (
        {"after": "pair_style zero 5.0\npair_coeff * *\nfix e all qnep/efield 0 0 1"},
        "fix qnep/efield: wanted one pair_style qnep, got pair_style zero",
    ),
    "box below the communication cutoff": (
        {"before": "comm_style tiled", "between": "neighbor 8.0 bin"},
        "Communication cutoff for comm_style tiled cannot exceed periodic box length",
    ),
    "deviation file on one rank": (
        {"style": "qnep deviation none/f.txt 5", "coefficients": "* * nep.txt nep.txt Na C O"},
        "keyword deviation: cannot open file none/f.txt: No such file or directory",
    ),
    "excluded types": (
        {"after": "neigh_modify exclude type 1 3"},
        "wanted all neighbours of the atoms of the model, because a many-body model needs them, got neigh_modify "
        "exclude: to freeze atoms leave them out of the fix that integrates",
    ),
    "excluded group": (
        {"after": "group frozen id 1:5\nneigh_modify exclude group frozen frozen"},
        "got neigh_modify exclude",
    ),
    "included group": (
        {
            "before": "atom_modify first some",
            "between": "group some id 1:5\nneigh_modify include some",
        },
        "got neigh_modify include",
    ),
    "two atoms at one place": (
        {"after": "displace_atoms coincident move {gap} units box"},
        "are at the same place",
    ),
}


@pytest.fixture
def files(tmp_path, random_electrolyte):
    model = random_model("Na C O", charge_mode=2, radial_cutoff=5.0, seed=3)
    model.write(str(tmp_path / "nep.txt"))
    text = (tmp_path / "nep.txt").read_text()
    (tmp_path / "cut.txt").write_text(text[: len(text) // 2])
    random_model("Na C O", radial_cutoff=5.0, seed=3).write(str(tmp_path / "plain.txt"))
    random_model("Na C O", has_temperature=True, radial_cutoff=5.0, seed=3).write(
        str(tmp_path / "free.txt")
    )
    (tmp_path / "empty.txt").write_text("")
    random_model("Na C O", kind="dipole", seed=3).write(str(tmp_path / "dipole.txt"))
    return random_electrolyte(20)


def assert_stops(run, message: str) -> None:
    text = " ".join(run.screen.split())
    assert run.status != 0, text
    assert message in text, text


@pytest.mark.parametrize("style", WRONG_KEYWORDS)
def test_wrong_keywords(style, run_lammps, files, tmp_path):
    write_data(tmp_path / "system.data", files, "Na C O")
    run = run_lammps(SCRIPT.format(**{**DEFAULTS, "style": style}), n_ranks=2)
    assert_stops(run, WRONG_KEYWORDS[style])


@pytest.mark.parametrize("case", WRONG_SYSTEMS)
def test_wrong_systems(case, run_lammps, files, tmp_path):
    changes, message = WRONG_SYSTEMS[case]
    atomic = changes.get("atom_style") == "atomic"
    write_data(tmp_path / "system.data", files, "Na C O", "atomic" if atomic else "charge")
    if case == "two atoms at one place":
        gap = files.positions[1] - files.positions[0]
        move = "group coincident id 1\ndisplace_atoms coincident move {:.17g} {:.17g} {:.17g} units box"
        changes = {"after": move.format(*np.asarray(gap))}
    run = run_lammps(SCRIPT.format(**{**DEFAULTS, **changes}), n_ranks=2)
    assert_stops(run, message)
    if (
        case == "two atoms at one place"
    ):  # by their ids, not by their places in the arrays of a rank
        assert re.search(r"ids (1 and 2|2 and 1) are", " ".join(run.screen.split()))
