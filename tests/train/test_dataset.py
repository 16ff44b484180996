import sys
from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from ase.io import write

from qnep.train.dataset import (
    load_baseline,
    load_frames,
    sample_frames,
    split_by_trajectory,
    subtract_calculator,
)
from qnep.train.settings import SettingsError


def test_no_trajectory_is_divided(make_frames):
    frames = [
        replace(frame, group=f"run {index // 5}") for index, frame in enumerate(make_frames(30))
    ]
    data = split_by_trajectory(frames, 0.2, 0.2, seed=3)
    groups = [
        {frame.group for frame in part} for part in (data.training, data.validation, data.test)
    ]
    assert sum(map(len, groups)) == 6 and not groups[0] & groups[1] and not groups[1] & groups[2]
    assert len(data.training) + len(data.validation) + len(data.test) == 30
    assert "6 trajectories, none divided" in data.description


def grouped(make_frames, sizes: dict[str, int]) -> list:
    """Return frames of trajectories of the given sizes; "" is none."""
    names = [name for name, size in sizes.items() for _ in range(size)]
    return [replace(frame, group=name) for frame, name in zip(make_frames(len(names)), names)]


@pytest.mark.parametrize("seed", range(6))
def test_large_trajectories_are_not_held_out_for_small_fractions(make_frames, seed):
    """18 and 2 structures, a tenth held out: the two, whatever the seed."""
    data = split_by_trajectory(grouped(make_frames, {"long": 18, "short": 2}), 0.1, 0.0, seed)
    assert {frame.group for frame in data.validation} == {"short"}
    assert len(data.training) == 18


@pytest.mark.parametrize("seed", range(4))
def test_small_equal_trajectories_fill_their_share(make_frames, seed):
    """20 trajectories of 2: fractions of 0.2 and 0.1 are met exactly."""
    frames = grouped(make_frames, {f"run {k}": 2 for k in range(20)})
    data = split_by_trajectory(frames, 0.2, 0.1, seed)
    assert (len(data.validation), len(data.test), len(data.training)) == (8, 4, 28)
    assert len({frame.group for frame in frames}) == sum(
        len({frame.group for frame in part}) for part in (data.training, data.validation, data.test)
    )


def test_structures_without_trajectory_are_held_out_in_blocks(make_frames):
    """One key among twenty structures does not make a trajectory of the others."""
    frames = grouped(make_frames, {"": 19, "run": 1})
    for seed in range(4):
        data = split_by_trajectory(frames, 0.2, 0.1, seed)
        assert (len(data.validation), len(data.test)) == (4, 2)
    assert data.description.endswith(
        "1 trajectories, none divided, and 19 structures without one in 10 blocks"
    )


def test_nothing_small_enough_is_refused(make_frames):
    frames = grouped(make_frames, {"a": 10, "b": 10})
    with pytest.raises(SettingsError, match=r"small enough to hold out 2 .*sizes: 10, 10"):
        split_by_trajectory(frames, 0.1, 0.0, seed=0)


def test_baseline_lies_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "baseline_of_a_test.py").write_text("def make():\n    return 'a calculator'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", sys.path.copy())
    assert load_baseline("baseline_of_a_test:make") == "a calculator"


@pytest.mark.parametrize(
    "path, words",
    [
        ("no_such_module:make", "got 'no_such_module:make': No module named"),
        ("json:make", "got 'json:make': module 'json' has no attribute 'make'"),
        ("json", "must be \"package.module:function\", got 'json'"),
        (":make", "must be \"package.module:function\", got ':make'"),
    ],
)
def test_baselines_that_are_not_there_are_named(path, words, monkeypatch):
    monkeypatch.setattr("sys.path", sys.path.copy())
    with pytest.raises(SettingsError, match=words):
        load_baseline(path)


def test_one_trajectory_is_divided_in_blocks(make_frames):
    data = split_by_trajectory(make_frames(10), 0.2, 0.1, seed=0)
    assert [frame.label for frame in data.validation] == ["frame 7", "frame 8"]
    assert [frame.label for frame in data.test] == ["frame 9"]


def test_holding_out_everything_is_refused(make_frames):
    with pytest.raises(SettingsError, match="nothing is left for training"):
        split_by_trajectory(make_frames(3), 0.5, 0.5, seed=0)


def test_samples_keep_their_order(make_frames):
    frames = make_frames(8)
    sample = sample_frames(frames, 3, seed=1)
    assert [frames.index(frame) for frame in sample] == sorted(
        frames.index(frame) for frame in sample
    )
    assert sample_frames(frames, 0, seed=1) == frames


def test_files_that_hold_nothing(tmp_path, make_atoms):
    write(tmp_path / "a.xyz", [make_atoms(seed) for seed in range(2)], format="extxyz")
    assert [frame.n_atoms for frame in load_frames([tmp_path / "a.xyz"], ("O", "H"))] == [12, 12]
    (tmp_path / "empty.xyz").write_text("")
    with pytest.raises(SettingsError, match="no structures in"):
        load_frames([tmp_path / "empty.xyz"], ("O", "H"))


def test_a_calculator_is_taken_off_the_labels(make_atoms, make_frames):
    """The hook for E_DFT - E_QEq: any ASE calculator, here Lennard-Jones."""
    options = {"sigma": 1.5, "epsilon": 0.02, "rc": 3.0, "smooth": True}
    (frame,) = subtract_calculator(make_frames(1), ("O", "H"), LennardJones(**options))
    atoms = make_atoms(0)
    labels = dict(atoms.calc.results)
    atoms.calc = LennardJones(**options)
    assert frame.energy == pytest.approx(labels["energy"] - atoms.get_potential_energy())
    np.testing.assert_allclose(frame.forces, labels["forces"] - atoms.get_forces())
    from_stress = -atoms.get_volume() * atoms.get_stress(voigt=False)
    np.testing.assert_allclose(frame.virial, make_frames(1)[0].virial - from_stress)
