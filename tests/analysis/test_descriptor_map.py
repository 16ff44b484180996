"""A map of points whose principal axes and outliers are known."""

import json

import numpy as np
import pytest
from ase import Atoms

from qnep.analysis.descriptor_map import (
    map_descriptors,
    structure_descriptors,
    summarize_map,
    write_chemiscope,
)


@pytest.fixture
def clouds():
    """Descriptors of length 6 that live on a plane, and test points of which two lie far outside."""
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(2, 6))
    train = rng.normal(size=(300, 2)) @ plane
    test = np.vstack(
        (rng.normal(size=(20, 2)) @ plane * 0.5, np.array([[9.0, 0.0], [0.0, -12.0]]) @ plane)
    )
    return train, test


def test_two_components_explain_a_plane(clouds):
    found = map_descriptors(*clouds)
    assert found.explained.sum() == pytest.approx(1.0)
    assert found.train.shape == (300, 2)
    assert found.train.std(axis=0) == pytest.approx([1.0, 1.0])
    assert np.cov(found.train.T)[0, 1] == pytest.approx(0.0, abs=1e-12)


def test_outliers_are_the_two_far_ones(clouds):
    found = map_descriptors(*clouds)
    assert set(found.outliers) == {20, 21}
    names = [f"frame {k}" for k in range(22)]
    table = summarize_map(found, names).tables[0]
    assert {row[1] for row in table.rows} == {"frame 20", "frame 21"}


def test_density_is_high_where_training_points_are(clouds):
    found = map_descriptors(*clouds)
    assert found.density[300:320].min() > 100 * found.density[320:].max()


def test_structures_are_means_over_atoms():
    found = structure_descriptors(
        [Atoms("H2"), Atoms("O")], lambda a: a.numbers[:, None] * np.ones(3)
    )
    assert found.tolist() == [[1, 1, 1], [8, 8, 8]]


def test_chemiscope_file(clouds, tmp_path):
    pytest.importorskip("chemiscope")
    found = map_descriptors(*clouds)
    frames = [Atoms("NaF", [[0, 0, 0], [0, 0, 2.3]])] * 322
    write_chemiscope(tmp_path / "map.json", frames, found, 300)
    data = json.loads((tmp_path / "map.json").read_text())
    assert data["properties"]["component 1"]["target"] == "structure"


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (np.zeros((2, 3)), None, "at least 3 training"),
        (np.zeros((5, 3)), None, "do not differ"),
        (np.eye(5), np.eye(4), "have length 4, training ones 5"),
        (np.full((5, 3), np.nan), None, "finite"),
    ],
)
def test_bad_input(train, test, message):
    with pytest.raises(ValueError, match=message):
        map_descriptors(train, test)
