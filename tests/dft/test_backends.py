"""Named backends."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk
from ase.units import Rydberg

from qnep.dft import BackendMissing, backend_settings, get_backend, list_backends
from qnep.dft.backends import cp2k_input, espresso_input, find_backend, vasp_parameters

is_installed = {status.name: status.is_installed for status in list_backends()}


def test_list_says_how_to_get_each():
    assert [status.name for status in list_backends()] == [
        "tblite",
        "gpaw",
        "cp2k",
        "espresso",
        "vasp",
    ]
    assert all(len(status.how_to_get) > 10 for status in list_backends())


@pytest.mark.parametrize("name", ["cp2k", "espresso", "vasp"])
def test_missing_backend_says_how_to_get_it(name):
    if is_installed[name]:
        pytest.skip(f"{name} is installed here")
    with pytest.raises(BackendMissing, match=f"the backend {name} is not installed: .{{20,}}"):
        get_backend(name)


def test_unknown_backend_names_the_known():
    with pytest.raises(
        ValueError, match=r"unknown backend 'gpawn'; there are tblite, gpaw, .*module:callable"
    ):
        get_backend("gpawn")


@pytest.mark.parametrize("path", ["nowhere_at_all:thing", "ase.calculators.lj:Nothing"])
def test_import_path_that_leads_nowhere(path):
    with pytest.raises(ValueError, match="cannot import the backend"):
        get_backend(path)


@pytest.mark.dft
def test_tblite_equals_tblite(water):
    """The backend adds nothing to GFN1-xTB at 1000 K."""
    tblite = pytest.importorskip("tblite.ase")
    direct = water.copy()
    direct.calc = tblite.TBLite(method="GFN1-xTB", electronic_temperature=1000.3, verbosity=0)
    water.calc = get_backend("tblite")
    # 0.3 K in the electronic temperature is below 1e-9 eV for a molecule with a gap of many eV.
    assert water.get_potential_energy() == pytest.approx(direct.get_potential_energy(), abs=1e-6)
    assert np.allclose(water.get_forces(), direct.get_forces(), atol=1e-6)
    assert np.allclose(water.get_stress(), direct.get_stress(), atol=1e-8)


@pytest.mark.dft
def test_tblite_warns_for_a_metal():
    pytest.importorskip("tblite")
    atoms = bulk("Na", "bcc", a=4.2, cubic=True).repeat(2)
    atoms.calc = get_backend("tblite")
    with pytest.warns(UserWarning, match="GFN-xTB is wrong for metals"):
        atoms.get_potential_energy()


@pytest.mark.dft
def test_tblite_with_a_charge(water):
    pytest.importorskip("tblite")
    water.calc = get_backend("tblite", total_charge=1.0, n_unpaired=1)
    neutral = water.copy()
    neutral.calc = get_backend("tblite")
    ionisation = water.get_potential_energy() - neutral.get_potential_energy()
    assert (
        8.0 < ionisation < 20.0
    )  # water: 12.6 eV; xTB without its vertical correction is a few eV off


def test_tblite_refuses_kpoints(water):
    pytest.importorskip("tblite")
    water.calc = get_backend("tblite", kpts=(2, 2, 1))
    with pytest.raises(ValueError, match="tblite has no k-points"):
        water.get_potential_energy()


def test_vasp_parameters_are_the_published_ones(water):
    """arXiv:2604.07077: PBE, D3, 600 eV, 0.04 spacing, Gamma-centred, Gaussian 0.05 eV, 1e-6 eV."""
    settings = backend_settings("vasp")
    assert (settings.kpoint_spacing, settings.energy) == (0.04, "extrapolated")
    parameters = vasp_parameters(water, (3, 3, 2), settings)
    published = {
        "xc": "pbe",
        "encut": 600.0,
        "ismear": 0,
        "sigma": 0.05,
        "ediff": 1e-6,
        "ivdw": 12,
        "kpts": (3, 3, 2),
        "gamma": True,
    }
    assert {name: parameters[name] for name in published} == published


def test_vasp_spin_and_charge(water):
    settings = backend_settings("vasp", total_charge=-1.0, n_unpaired=1, dispersion="d3zero")
    parameters = vasp_parameters(water, (1, 1, 1), settings)
    assert (parameters["charge"], parameters["ispin"], parameters["nupdown"]) == (-1.0, 2, 1)
    assert parameters["ivdw"] == 11


def test_espresso_input():
    settings = backend_settings("espresso", n_unpaired=2)
    table = espresso_input(settings, {"conv_thr": 1e-8})
    assert table["ecutwfc"] == pytest.approx(60.0, rel=1e-4)
    assert table["ecutrho"] == 8 * table["ecutwfc"]
    assert table["degauss"] == pytest.approx(0.05 / Rydberg)
    assert (table["nspin"], table["tot_magnetization"], table["conv_thr"]) == (2, 2, 1e-8)


def test_cp2k_input_has_smearing_grid_and_small_core_sodium():
    text = cp2k_input((2, 2, 1), backend_settings("cp2k"), "GTH-PBE-q1")
    assert "SCHEME MONKHORST-PACK 2 2 1" in text
    assert "ELECTRONIC_TEMPERATURE [K] 580.2" in text  # 0.05 eV / k_B
    assert "&KIND Na\nPOTENTIAL GTH-PBE-q1" in text
    assert "KIND" not in cp2k_input((1, 1, 1), backend_settings("cp2k"), None)


@pytest.mark.parametrize("n_unpaired", [None, 0, 2])
def test_cp2k_keeps_the_moment(n_unpaired):
    """Its default, a negative number, lets smearing change the moment."""
    text = cp2k_input((1, 1, 1), backend_settings("cp2k", n_unpaired=n_unpaired), None)
    keyword, smearing = (
        "FIXED_MAGNETIC_MOMENT",
        text[text.index("&SMEAR") : text.index("&END SMEAR")],
    )
    assert (keyword in text) == (n_unpaired is not None)
    assert n_unpaired is None or f"{keyword} {n_unpaired}.0\n" in smearing


def test_cp2k_refuses_a_part_of_a_charge(water, tmp_path):
    settings = backend_settings("cp2k", total_charge=0.5)
    with pytest.raises(ValueError, match=r"cp2k takes whole charges, got total_charge = 0\.5 e"):
        find_backend("cp2k").make_calculator(water, (1, 1, 1), settings, tmp_path)


@pytest.mark.parametrize("n_unpaired", [None, 0, 1])
def test_gpaw_keeps_the_moment(water, tmp_path, monkeypatch, n_unpaired):
    """With `fixmagmom` GPAW keeps the sum of the first moments; a stand-in notes what GPAW is given."""
    gpaw = SimpleNamespace(GPAW=dict, PW=float, FermiDirac=lambda *a, **k: (a, k))
    gpaw.Mixer = lambda *numbers: numbers
    monkeypatch.setitem(sys.modules, "gpaw", gpaw)
    settings = backend_settings("gpaw", n_unpaired=n_unpaired, total_charge=1.0)
    given = find_backend("gpaw").make_calculator(water, (1, 1, 1), settings, tmp_path)
    has_spin = n_unpaired is not None
    assert given["occupations"] == ((settings.smearing_eV,), {"fixmagmom": has_spin})
    assert (given["spinpol"], given["charge"]) == (has_spin, 1.0)
    assert water.get_initial_magnetic_moments().sum() == pytest.approx(n_unpaired or 0)
