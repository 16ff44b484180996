"""Dispersion and basis-set stress."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.db import connect
from ase.io import read

from qnep.dft import Labeller, Pool, backend_settings, get_backend
from qnep.dft.corrections import PulayStress
from qnep.dft.settings import load_preset


def test_pulay_pressure_by_hand():
    """Two O and one H in 100 Å³ at 300 eV: p = 2/3 · 3 · (2 · 0.004 + 0.001) = 0.018 eV/Å³, towards tension."""
    atoms = Atoms("OHO", np.zeros((3, 3)), cell=[4, 5, 5], pbc=True)
    atoms.calc = PulayStress(300.0, {"O": -0.004, "H": -0.001})
    assert atoms.get_stress() == pytest.approx([-0.018] * 3 + [0.0] * 3, abs=1e-12)
    assert atoms.get_potential_energy() == 0.0
    assert not atoms.get_forces().any()


def test_pulay_pressure_of_the_seed_set(shared_data):
    """The preset's slopes give the correction that the reference labels carry."""
    from ase.io import read

    settings = load_preset("gpaw")
    for atoms in read(shared_data / "dft_seed" / "seed.extxyz", "::8"):
        pressure = PulayStress(settings.cutoff_eV, settings.pulay_slopes).pressure(atoms)
        # Slopes are published to 1e-5 eV/eV, so each atom may be off by half of that.
        rounding = (2 / 3) * settings.cutoff_eV / atoms.get_volume() * len(atoms) * 0.5e-5
        assert pressure == pytest.approx(atoms.info["pulay_stress_removed"], abs=rounding)


def stressed(**settings):
    """Return an argon pair that the Lennard-Jones of ASE labels, which has a stress and no use for a cutoff."""
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 3.8]], cell=[9, 9, 9], pbc=True)
    atoms.calc = get_backend("fakes:lennard_jones", **settings)
    return atoms


def test_slopes_of_another_cutoff_give_no_stress_rather_than_a_wrong_one():
    """Energy and forces stay; slopes that name no cutoff are for the one in use."""
    plain = stressed(cutoff_eV=800.0)
    slopes = {"Ar": -0.001}
    correction = (2 / 3) * 800.0 * 2 * 0.001 / 9**3
    for pulay in (slopes, {**slopes, "cutoff_eV": 800}):
        corrected = stressed(cutoff_eV=800.0, pulay=pulay)
        difference = corrected.get_stress() - plain.get_stress()
        assert difference == pytest.approx([-correction] * 3 + [0.0] * 3, abs=1e-12)
    without = stressed(cutoff_eV=800.0, pulay={**slopes, "cutoff_eV": 500.0})
    np.testing.assert_array_equal(without.get_forces(), plain.get_forces())
    with pytest.raises(PropertyNotImplementedError, match=r"hold at 500 eV, the cutoff is 800 eV"):
        without.get_stress()


def test_labels_without_a_stress_say_so_and_can_be_trained_on(tmp_path, caplog):
    """Once in the log, and beside each label; the exported frame has neither stress nor virial."""
    settings = backend_settings("fakes:lennard_jones", cutoff_eV=340.0, pulay={"cutoff_eV": 500.0})
    pool = Pool(tmp_path / "pool.db")
    frames = [stressed().copy(), stressed().copy()]
    frames[1].positions[1] += 0.1
    assert Labeller(pool, "fakes:lennard_jones", settings).run(frames).n_labelled == 2
    assert caplog.text.count("labels: no stress: the slopes") == 1
    pool.export(tmp_path / "all.extxyz")
    for atoms in read(tmp_path / "all.extxyz", ":"):
        assert "stress" not in atoms.calc.results and "virial" not in atoms.info
    rows = connect(tmp_path / "pool.db").select()
    assert all(row.data["details"]["remarks"][0].startswith("no stress") for row in rows)
    load_frames = pytest.importorskip("qnep.train").load_frames
    assert all(frame.virial is None for frame in load_frames([tmp_path / "all.extxyz"], ["Ar"]))


def test_the_slopes_of_the_preset_hold_at_its_cutoff():
    preset = load_preset("gpaw")
    assert preset.why_no_stress == "" and preset.pulay_slopes["O"] == -0.00693
    for cutoff in (340, 499.0, 800.0):
        assert preset.replace(cutoff_eV=cutoff).why_no_stress
    assert not preset.replace(cutoff_eV=800.0, pulay={}).why_no_stress


def test_unknown_element_is_named():
    atoms = Atoms("Au", cell=[4, 4, 4], pbc=True)
    with pytest.raises(ValueError, match="no basis-set correction of the stress is known for Au"):
        PulayStress(500.0, {"O": -0.007}).pressure(atoms)


def test_dispersion_is_added_to_energy_forces_and_stress():
    """Lennard-Jones argon plus D3(BJ): the force is the slope of the energy, and D3 attracts."""
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 3.8]], cell=[12, 12, 12], pbc=True)
    energies = {}
    for dispersion in ("none", "d3bj"):
        atoms.calc = get_backend(
            "ase.calculators.lj:LennardJones",
            dispersion=dispersion,
            xc="PBE",
            options={"epsilon": 0.01, "sigma": 3.4, "rc": 5.5, "smooth": True},
        )
        energies[dispersion] = atoms.get_potential_energy()
    assert energies["d3bj"] < energies["none"]
    step = 1e-3
    expected = 0.0
    for sign in (1, -1):
        moved = atoms.copy()
        moved.calc = atoms.calc
        moved.positions[1, 2] += sign * step
        expected -= sign * moved.get_potential_energy() / (2 * step)
    # Central differences of step h are exact to h² E'''/6, about 1e-8 eV/Å here.
    assert atoms.get_forces()[1, 2] == pytest.approx(expected, abs=1e-6)


def test_molecule_without_cell_has_no_stress():
    atoms = molecule("H2O")
    atoms.calc = get_backend("ase.calculators.lj:LennardJones")
    atoms.get_potential_energy()
    assert "stress" not in atoms.calc.results
