"""Settings and presets."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from qnep.dft.backends import BACKENDS
from qnep.dft.settings import MOST_ITERATIONS, SETTINGS, Settings, load_preset, parse_value


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_has_a_preset(name):
    assert load_preset(name).level


def test_unknown_preset_names_the_known():
    with pytest.raises(ValueError, match="there are cp2k, espresso, gpaw"):
        load_preset("gaussian")


def test_unknown_setting_names_the_known():
    with pytest.raises(ValueError, match=r"unknown setting ecut; known are .*cutoff_eV"):
        load_preset("gpaw").replace(ecut=300)


def test_wrong_choice_is_refused():
    with pytest.raises(ValueError, match="dispersion must be one of none, d3bj, d3zero, got 'd4'"):
        load_preset("gpaw").replace(dispersion="d4")


def test_retries_change_the_convergence_only():
    """A label of a later attempt belongs to the same level of theory."""
    settings = load_preset("gpaw")
    second = settings.for_attempt(1)
    assert second.options["maxiter"] > settings.options["maxiter"]
    assert second.options["nbands"] == settings.options["nbands"]
    assert settings.for_attempt(9).options == settings.for_attempt(2).options


@pytest.mark.parametrize("name", [*BACKENDS])
def test_a_retry_has_no_fewer_iterations_than_the_user_asked_for(name):
    """GPAW's preset retries with 250 and 400 iterations, which is less than 500."""
    (option,) = MOST_ITERATIONS & load_preset(name).retries[0].keys()
    settings = load_preset(name).replace(options={option: 5000})
    retries = [settings.for_attempt(k) for k in range(1, 4)]
    assert [retry.options[option] for retry in retries] == [5000] * 3
    few = load_preset(name).replace(options={option: 5})
    assert few.for_attempt(1).options[option] > 50


def test_digest_follows_the_level_and_not_the_grid():
    settings = load_preset("gpaw")
    assert settings.replace(cutoff_eV=800).digest() != settings.digest()
    assert settings.replace(options={"nbands": "120%"}).digest() != settings.digest()
    assert settings.replace(kpts=(2, 2, 1)).digest() == settings.digest()
    # Of qnep before the slopes had a cutoff: pools that were filled then are known.
    assert settings.replace(cutoff_eV=340.0).digest() == "16e875c8"


@pytest.mark.parametrize(
    ("text", "value"),
    [("250", 250), ("[1, 2]", [1, 2]), ("{a = 1.5}", {"a": 1.5}), ("d3bj", "d3bj")],
)
def test_values_of_the_command_line(text, value):
    assert parse_value(text) == value


def test_every_setting_is_checked_and_documented():
    assert [entry.name for entry in dataclasses.fields(Settings)] == list(SETTINGS)
    text = (Path(__file__).parents[2] / "docs" / "labelling.md").read_text()
    table = text.partition("| setting | value |\n")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(SETTINGS)
