"""Random models, descriptions and what a model file keeps."""

from __future__ import annotations

import gzip
import pickle

import numpy as np
import pytest

import qnep
from qnep.model import Model, describe, random_model

FORMS = {
    "nep3": {"version": 3},
    "nep4": {},
    "nep5": {"version": 5, "radial_cutoff": (6.0, 5.0, 5.5), "angular_cutoff": (4.0, 3.5, 4.5)},
    "nep4_zbl": {"zbl": (0.7, 1.4)},
    "nep4_zbl typewise": {"zbl": (0.7, 1.4, 0.6)},
    "nep4_zbl flexible": {"zbl": (0, 0)},
    "nep4_charge1": {"charge_mode": 1},
    "nep4_zbl_charge2": {"charge_mode": 2, "zbl": (0.7, 1.4)},
    "nep4_dipole": {"kind": "dipole"},
    "nep3_polarizability": {"kind": "polarizability", "version": 3},
    "nep4_temperature": {"has_temperature": True},
    "all invariants": {"l_max": (8, 1, 1, 1, 1, 1, 1)},
}


@pytest.mark.parametrize("form", FORMS)
def test_random_models_survive_the_file(form, tmp_path):
    model = random_model("C H Na", **FORMS[form], seed=3)
    model.write(tmp_path / "nep.txt")
    read = Model.read(tmp_path / "nep.txt")
    assert Model.read(str(tmp_path / "nep.txt")).format() == read.format()
    assert read.token == model.token
    np.testing.assert_array_equal(read.parameters, model.parameters)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).parameters, model.parameters)


def test_a_changed_cutoff_survives_the_file():
    """Also where the model was made with one cutoff for all elements."""
    model = random_model("Na Cl", radial_cutoff=6.0, angular_cutoff=4.0, seed=3)
    model.radial_cutoffs = [6.0, 5.0]
    copy = pickle.loads(pickle.dumps(model))
    assert list(copy.radial_cutoffs) == [6.0, 5.0]
    assert list(copy.angular_cutoffs) == [4.0, 4.0]


def test_a_model_with_charges_has_one_radial_cutoff():
    """Its Ewald parameter belongs to the largest: at a shorter one the real-space energy would jump."""
    for charge_mode in (1, 2):
        with pytest.raises(qnep.ModelError, match=r"one radial cutoff .* got 8\.0+ and 4\.0+ Ang"):
            random_model("Na F", charge_mode=charge_mode, radial_cutoff=(8.0, 4.0))
        random_model("Na F", charge_mode=charge_mode, angular_cutoff=(4.0, 3.0))


def test_files_that_are_no_text(tmp_path):
    """The message is one sentence whatever the bytes."""
    text = random_model("Na F", seed=1).format()
    for name, content, message in (
        ("nep.txt.gz", gzip.compress(text.encode()), "wanted a text file, got a binary or a comp"),
        (
            "latin.txt",
            text.replace("Na F", "Na é").encode("latin-1"),
            r"line 1: wanted .* got '\?'",
        ),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(qnep.ModelError, match=f"{name}.*{message}"):
            Model.read(tmp_path / name)
    with pytest.raises(qnep.ModelError, match="wanted a model file, got a folder"):
        Model.read(tmp_path)
    (tmp_path / "mark.txt").write_text(text, encoding="utf-8-sig")
    assert Model.read(tmp_path / "mark.txt").format() == text


def test_the_published_shape_has_its_number_of_parameters():
    """22,633 numbers with one output; a second output adds neurons and sqrt(epsilon)."""
    shape = {"n_max": (8, 8), "basis_size": (8, 8), "l_max": (4, 2, 0), "n_neurons": 50}
    elements = "C F H Na O P"
    plain = random_model(elements, radial_cutoff=6.5, angular_cutoff=4.0, **shape)
    charged = random_model(elements, radial_cutoff=6.5, angular_cutoff=4.0, charge_mode=2, **shape)
    assert plain.n_descriptors == 54
    assert plain.n_parameters - plain.n_descriptors == 22633
    assert charged.n_parameters - plain.n_parameters == 6 * 50 + 1


def test_same_seed_same_model():
    first, second, other = (random_model("Na F", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.parameters, second.parameters)
    assert not np.array_equal(first.parameters, other.parameters)


@pytest.mark.parametrize("form", FORMS)
def test_description(form):
    model = random_model("C H Na", **FORMS[form])
    description = dict(describe(model))
    assert description["model"] == model.token
    assert description["elements"] == "C H Na"
    assert description["descriptors"] == str(model.n_descriptors)
    assert ("Ewald parameter" in description) == (model.charge_mode > 0)


def test_settings_that_no_model_has():
    with pytest.raises(qnep.ModelError, match="l_max"):
        random_model("Na", l_max=(2, 0, 0, 0, 1))
    with pytest.raises(qnep.ModelError, match="Xx"):
        random_model("Na Xx")
