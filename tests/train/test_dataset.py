from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from ase.io import write

from qnep.train.dataset import load_frames, sample_frames, split_by_trajectory, subtract_calculator
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
