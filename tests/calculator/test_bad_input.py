"""Thousands of mutated model files and structures: an error or finite numbers, never a crash or a silent NaN."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from qnep import QNEP, ModelError, random_model
from qnep.model import Model

TINY = {"n_max": (1, 1), "basis_size": (2, 2), "n_neurons": 2, "radial_cutoff": 5.0}
FORMS = {
    "nep3": {"version": 3, "l_max": (2, 1)},
    "nep4_zbl": {"zbl": (0.7, 1.4), "l_max": (3, 1, 1)},
    "nep4_zbl flexible": {"zbl": (0, 0), "l_max": (1,)},
    "nep5": {"version": 5, "radial_cutoff": (5.0, 4.0), "l_max": (2,)},
    "nep4_charge1": {"charge_mode": 1, "l_max": (2,)},
    "nep4_charge2": {"charge_mode": 2, "l_max": (4, 1, 0, 0, 0, 0, 1)},
    "nep4_dipole": {"kind": "dipole", "l_max": (2,)},
    "nep4_polarizability": {"kind": "polarizability", "l_max": (2,)},
    "nep4_temperature": {"has_temperature": True, "l_max": (2,)},
}
JUNK = (
    "nan", "inf", "-inf", "1e400", "-1", "0", "0.5", "1e9", "99999999999999999999", "", "x", "nep4",
    "nep9", "_zbl", "Na", "Xx", "na", "1,5", "0x10", "\x00", "é", "2 2", "-0", "1e-400", "--", "#",
)  # fmt: skip


def small_model(form: str) -> Model:
    return random_model("Na F", **(TINY | FORMS[form]), seed=7)


def mutate(text: str, random: np.random.Generator) -> str:
    """Change one to three things in the text of a model: tokens, lines or single characters."""
    for _ in range(random.integers(1, 4)):
        lines = text.split("\n")
        # half of the changes hit the header, where there is more to get wrong
        end = min(len(lines), 8) if random.random() < 0.5 else len(lines)
        k = int(random.integers(end))
        action = random.integers(7)
        if action == 0:
            del lines[k]
        elif action == 1:
            lines.insert(k, lines[random.integers(len(lines))])
        elif action == 2:
            lines = lines[:k]
        elif action == 3:
            tokens = lines[k].split() or [""]
            tokens[random.integers(len(tokens))] = str(random.choice(JUNK))
            lines[k] = " ".join(tokens)
        elif action == 4:
            lines[k] += " " + str(random.choice(JUNK))
        elif action == 5:
            tokens = lines[k].split()
            del tokens[-1:]
            lines[k] = " ".join(tokens)
        else:
            place = int(random.integers(len(lines[k]) + 1))
            lines[k] = lines[k][:place] + chr(random.integers(32, 127)) + lines[k][place + 1 :]
        text = "\n".join(lines) or "\n"
    return text


def result_of(model: Model, atoms: Atoms) -> np.ndarray:
    """Everything that a model gives for the atoms, as one vector."""
    calculator = QNEP(model, temperature=300.0 if model.has_temperature else None)
    if model.kind == "dipole":
        return calculator.get_dipole_moment(atoms)
    if model.kind == "polarizability":
        return calculator.get_polarizability(atoms).ravel()
    return np.append(calculator.get_forces(atoms).ravel(), calculator.get_potential_energy(atoms))


@pytest.mark.parametrize("form", FORMS)
def test_mutated_model_files(form, generator):
    """160 of each form: refused with a text that names the file, or a model whose numbers are finite."""
    text = small_model(form).format()
    atoms = bulk("NaF", "rocksalt", a=4.7)
    n_refused = 0
    for _ in range(160):
        try:
            model = Model.parse(mutate(text, generator), "mutant.txt")
        except ModelError as failure:
            assert "mutant.txt" in str(failure)
            n_refused += 1
            continue
        try:
            assert np.isfinite(result_of(model, atoms)).all()
        except (
            ValueError
        ):  # settings that are a model but not for these atoms: another element, a huge cutoff
            continue
    assert n_refused > 80


@pytest.mark.parametrize("form", FORMS)
def test_a_model_file_of_another_length(form):
    """Every truncation at the end of a line and every surplus number is refused."""
    lines = small_model(form).format().splitlines()
    for n_lines in range(len(lines)):
        with pytest.raises(ModelError, match=r"short\.txt"):
            Model.parse("\n".join(lines[:n_lines]), "short.txt")
    with pytest.raises(ModelError, match=r"long\.txt"):
        Model.parse("\n".join([*lines, "0.0"]), "long.txt")


@np.errstate(all="ignore")
def mutated_structure(random: np.random.Generator) -> Atoms:
    """A piece of NaF with one to three things changed that files and programs get wrong."""
    atoms = bulk("NaF", "rocksalt", a=4.7, cubic=True)
    atoms.rattle(0.1, rng=random)
    for _ in range(random.integers(1, 4)):
        i, d = random.integers(len(atoms)), random.integers(3)
        action = random.integers(12)
        if action == 0:
            atoms.positions[i, d] = random.choice([np.nan, np.inf, -np.inf, 1e300, 1e12, -1e7, 1e5])
        elif action == 1:
            atoms.positions[i] = atoms.positions[random.integers(len(atoms))]
        elif action == 2:
            atoms.positions[i] += atoms.cell[d] * random.integers(-1000, 1000)
        elif action == 3:
            atoms.numbers[i] = random.choice([0, 1, 9, 11, 92, 118])
        elif action == 4:
            atoms.cell[d] = 0.0
        elif action == 5:
            atoms.cell[d] = atoms.cell[(d + 1) % 3] * random.choice([1.0, -2.0, 1.0 + 1e-12])
        elif action == 6:
            atoms.cell[d, random.integers(3)] = random.choice([np.nan, np.inf, 1e300, 1e6, -30.0])
        elif action == 7:
            atoms.set_cell(atoms.cell * random.choice([1e-12, 1e-3, 0.1, 0.5, 100.0, 1e5]))
        elif action == 8:
            atoms.pbc[d] = False
        elif action == 9:
            atoms = atoms[random.permutation(len(atoms))[: random.integers(len(atoms) + 1)]]
            if len(atoms) == 0:
                return atoms
        elif action == 10:
            atoms.positions *= random.choice([0.0, 1e-6, 0.3, 50.0])
        else:
            atoms.set_cell(atoms.cell[random.permutation(3)])
    return atoms


@pytest.mark.parametrize("form", ["nep4_zbl", "nep4_charge1", "nep4_charge2", "nep4_dipole"])
def test_mutated_structures(form, generator):
    """250 of each form, one calculator for all, so that what a bad structure leaves behind meets the next one."""
    calculator = QNEP(small_model(form))
    wanted = "dipole" if form == "nep4_dipole" else "forces"
    n_refused = 0
    for _ in range(250):
        atoms = mutated_structure(generator)
        try:
            result = calculator.get_property(wanted, atoms)
        except ValueError as failure:
            assert len(str(failure)) > 10
            n_refused += 1
        else:
            assert np.isfinite(result).all()
    assert 50 < n_refused < 250


def test_nothing_bad_is_left_behind(generator):
    """After any number of bad structures the calculator gives the same numbers as a fresh one."""
    calculator = QNEP(small_model("nep4_charge2"))
    good = bulk("NaF", "rocksalt", a=4.7, cubic=True)
    expected = QNEP(small_model("nep4_charge2")).get_forces(good)
    for _ in range(30):
        try:
            calculator.get_forces(mutated_structure(generator))
        except ValueError:
            np.testing.assert_allclose(calculator.get_forces(good), expected, atol=1e-12)
