"""Numbers of molecules from molarity and density."""

from __future__ import annotations

import pytest

from qnep.build.composition import compose

pytest.importorskip("rdkit")


def test_pure_solvent_by_hand():
    """EC: 88.06 g/mol at 1.321 g/cm³ is 110.7 Å³ a molecule, so 1,000 atoms are 100 molecules in 11,070 Å³."""
    composition = compose({"EC": 1}, None, 0.0, n_atoms=1000)
    assert composition.counts == {"EC": 100}
    assert composition.volume == pytest.approx(88.062 / 1.321 / 0.6022141 * 100, rel=1e-4)


@pytest.mark.parametrize("molarity", [0.5, 1.0, 2.0])
def test_molarity_within_rounding(molarity):
    """At 20,000 atoms half an ion pair is less than 0.5 % of 120 pairs."""
    composition = compose({"EC": 1}, "NaPF6", molarity, n_atoms=20_000)
    assert composition.molarity == pytest.approx(molarity, rel=0.01)
    assert composition.n_atoms == pytest.approx(20_000, rel=1e-3)
    assert composition.counts["Na+"] == composition.counts["PF6-"]


def test_density_is_the_asked_one():
    """1 M NaPF6 in EC at 1.45 g/cm³: the mass of all molecules in the volume, by hand."""
    composition = compose({"EC": 1}, "NaPF6", 1.0, n_atoms=2000, density=1.45)
    mass = composition.counts["EC"] * 88.062 + composition.counts["Na+"] * 167.954
    assert mass / (composition.volume * 0.6022141) == pytest.approx(1.45, rel=1e-4)


def test_mixture_by_volume():
    """1:1 by volume is 1.321/88.06 : 1.063/90.08 = 1.271 in molecules."""
    counts = compose({"EC": 1, "DMC": 1}, None, 0.0, n_atoms=20_000).counts
    assert counts["EC"] / counts["DMC"] == pytest.approx(1.271, rel=0.005)


def test_volume_instead_of_atoms():
    composition = compose({"DME": 1}, "NaPF6", 1.0, volume=30_000)
    assert composition.volume == pytest.approx(
        30_000, rel=0.01
    )  # one DME of 170 Å³ and one pair round
    assert composition.counts["Na+"] == 18  # 30,000 Å³ · 6.022e-4 = 18.07


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"salt": "NaBr"}, "unknown salt 'NaBr'; there are NaPF6"),
        ({"molarity": 0.01}, "less than half an ion pair"),
        ({"molarity": -1.0}, "must be positive"),
        ({"molarity": 20.0}, "leaves no room for the solvent"),
        ({"density": 9.0}, r"density must be between 0.2 and 4 g/cm³, got 9"),
        ({"density": 0.25, "molarity": 2.0}, "less than the mass of the salt alone"),
        ({"solvents": {}}, "at least one solvent"),
        ({"solvents": {"EC": 0.0}}, "share of EC must be positive"),
        ({"n_atoms": None}, "either as n_atoms or as volume"),
        ({"n_atoms": -5}, "positive size"),
    ],
)
def test_bad_recipe(keywords, text):
    arguments = {"solvents": {"EC": 1}, "salt": "NaPF6", "molarity": 1.0, "n_atoms": 500}
    with pytest.raises(ValueError, match=text):
        compose(**{**arguments, **keywords})
