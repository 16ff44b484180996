"""The calculator that labels, and the label it gives."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import SCFError
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from qnep.dft import Limits, NotConverged, backend_settings, get_backend
from qnep.dft.backends import find_backend
from qnep.dft.label import compute_label
from qnep.dft.reference_calculator import ReferenceCalculator, chosen_grid
from qnep.dft.worker import Job, _JobRunner


class Frozen(FixAtoms):
    """Leaves no force and no stress, and adds to the energy: all that a constraint of ASE may do."""

    def adjust_stress(self, atoms, stress):
        stress[:] = 0.0

    def adjust_potential_energy(self, atoms):
        return 1.0


@pytest.fixture
def copper():
    atoms = bulk("Cu", a=3.5, cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.fixture
def expected(copper):
    """Energy, forces and stress of EMT for the free structure."""
    copper = copper.copy()
    copper.calc = EMT()
    return copper.get_potential_energy(), copper.get_forces(), copper.get_stress()


def test_a_molecule_that_is_not_periodic_has_one_k_point(water):
    """GPAW refuses more; as a crystal the box of 7 Å has three along each vector."""
    settings = backend_settings("gpaw")
    assert chosen_grid(water, settings) == (3, 3, 3)
    water.pbc = False
    assert chosen_grid(water, settings) == (1, 1, 1)


def test_constraints_do_not_change_a_label(copper, expected):
    copper.set_constraint(Frozen([0, 1, 2, 3]))
    label = compute_label(copper, get_backend("ase.calculators.emt:EMT"))
    for value, reference in zip((label.energy, label.forces, label.stress), expected):
        np.testing.assert_allclose(value, reference, rtol=1e-10, atol=1e-12)
    assert len(copper.constraints) == 1


def test_constraints_act_once_on_the_atoms_of_the_calculator(copper, expected):
    copper.set_constraint(Frozen([0]))
    copper.calc = get_backend("ase.calculators.emt:EMT")
    energy, forces, stress = expected
    np.testing.assert_allclose(copper.get_forces(apply_constraint=False), forces, atol=1e-12)
    np.testing.assert_allclose(copper.get_stress(apply_constraint=False), stress, atol=1e-12)
    np.testing.assert_array_equal(copper.get_forces()[0], 0.0)
    assert copper.get_potential_energy() == pytest.approx(energy + 1.0)


class Failing(EMT):
    """Raises what it was made with."""

    def __init__(self, failure):
        super().__init__()
        self.failure = failure

    def calculate(self, *arguments):
        raise self.failure


def fail(copper, backend, failure, folder):
    """Ask a calculator for an energy that fails with an error of the code of a backend."""
    copper.calc = ReferenceCalculator(
        lambda *arguments: Failing(failure),
        backend_settings("ase.calculators.emt:EMT"),
        directory=folder,
        is_not_converged=find_backend(backend).is_not_converged,
    )
    copper.get_potential_energy()


@pytest.mark.parametrize("backend", ["cp2k", "vasp", "ase.calculators.emt:EMT"])
def test_the_word_of_ase_for_no_convergence(copper, tmp_path, backend):
    with pytest.raises(NotConverged, match=r"Failing did not converge \(SCFError: 100 steps\)"):
        fail(copper, backend, SCFError("100 steps"), tmp_path)
    with pytest.raises(RuntimeError, match=r"^no licence$"):  # may be a broken installation
        fail(copper, backend, RuntimeError("no licence"), tmp_path)


def test_the_word_of_gpaw_for_no_convergence(copper, tmp_path):
    gpaw = pytest.importorskip("gpaw")
    with pytest.raises(NotConverged, match="KohnShamConvergenceError"):
        fail(copper, "gpaw", gpaw.KohnShamConvergenceError(), tmp_path)
    with pytest.raises(RuntimeError, match=r"^no setups$"):
        fail(copper, "gpaw", RuntimeError("no setups"), tmp_path)


def test_the_word_of_espresso_for_no_convergence(copper, tmp_path):
    """Its exit status says little, its log says it."""
    failure = RuntimeError("exit status 2")
    with pytest.raises(RuntimeError, match=r"^exit status 2$"):
        fail(copper, "espresso", failure, tmp_path)
    (tmp_path / "espresso.pwo").write_text(
        "     convergence NOT achieved after 100 iterations: stop\n"
    )
    with pytest.raises(NotConverged, match="exit status 2"):
        fail(copper, "espresso", failure, tmp_path)


@pytest.mark.parametrize(
    ("changes", "is_not_converged"),
    [({"options": {"max_iterations": 1}}, True), ({"xc": "GFN9-xTB"}, False)],
)
def test_tblite_itself_says_that_it_did_not_converge(
    water, tmp_path, monkeypatch, changes, is_not_converged
):
    pytest.importorskip("tblite")
    monkeypatch.chdir(tmp_path)
    settings = backend_settings("tblite", **changes)
    outcome = _JobRunner().run(Job(water, "tblite", settings, Limits(), 60.0))
    assert outcome.label is None and not outcome.is_final
    assert outcome.is_not_converged == is_not_converged, outcome.reason
