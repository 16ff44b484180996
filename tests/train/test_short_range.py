import dataclasses

import numpy as np

from qnep.train.short_range import NUMBERS_PER_PAIR, repulsion_below_data, shortest_distances


def test_shortest_distances_by_hand(make_frames):
    """One O at 1.2 Å from one H, which is also 6 Å from its own images in a cubic cell."""
    frame = dataclasses.replace(
        make_frames(1, n_atoms=2, symbols="OH")[0],
        positions=np.array([[0.1, 0, 0], [1.3, 0, 0]]),
        cell=6 * np.eye(3),
    )
    found = shortest_distances([frame], 2, cutoff=7.0)
    np.testing.assert_allclose(found, [[6.0, 1.2], [1.2, 6.0]])


def test_repulsion_begins_below_the_data(make_frames):
    """Pairs O-O, O-H, H-H; the outer radius is the shortest distance less 3 %, at most the cutoff."""
    frames = make_frames(3)
    shortest = shortest_distances(frames, 2, cutoff=2.5)
    numbers = np.reshape(repulsion_below_data(frames, 2, cutoff=2.5), (3, NUMBERS_PER_PAIR))
    expected = 0.97 * shortest[[0, 0, 1], [0, 1, 1]]
    np.testing.assert_allclose(numbers[:, 1], expected, atol=1e-3)
    np.testing.assert_allclose(numbers[:, 0], expected / 2, atol=1e-3)
