"""Small labelled structures and models for the tests of the trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

pytest.importorskip("torch", reason="the trainer needs the extra `train` (PyTorch)")

from qnep.train.frames import Frame, FrameReader


@pytest.fixture
def make_atoms() -> Callable[..., Atoms]:
    """Return a maker of random triclinic structures of O and H with random labels."""

    def make(seed: int, n_atoms: int = 12, symbols: str = "OHH", **info: object) -> Atoms:
        random = np.random.default_rng(seed)
        cell = 6.5 * np.eye(3) + random.uniform(-0.6, 0.6, (3, 3))
        positions: list[np.ndarray] = []
        while len(positions) < n_atoms:  # no two atoms closer than 1 Å
            trial = random.uniform(size=3) @ cell
            others = np.array(positions).reshape(-1, 3)
            fractional = np.linalg.solve(cell.T, (others - trial).T).T
            nearest = (fractional - np.round(fractional)) @ cell
            if (np.linalg.norm(nearest, axis=1) > 1.0).all():
                positions.append(trial)
        names = [symbols[i % len(symbols)] for i in range(n_atoms)]
        atoms = Atoms(names, positions, cell=cell, pbc=True, info=dict(info))
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=float(random.normal()) - 2.0 * n_atoms,
            forces=random.normal(size=(n_atoms, 3)),
            stress=0.01 * random.normal(size=6),
        )
        return atoms

    return make


@pytest.fixture
def make_frames(make_atoms: Callable[..., Atoms]) -> Callable[..., list[Frame]]:
    """Return a maker of frames for models of (O, H)."""

    def make(
        n_frames: int, elements: tuple[str, ...] = ("O", "H"), **options: object
    ) -> list[Frame]:
        reader = FrameReader(elements)
        return [
            reader.read(make_atoms(seed, **options), f"frame {seed}") for seed in range(n_frames)
        ]

    return make


@pytest.fixture
def data_file(tmp_path: Path, make_atoms: Callable[..., Atoms]) -> Path:
    """Six structures labelled by a random model, so that a fit is possible."""
    from qnep import QNEP, random_model

    teacher = random_model(
        "O H", radial_cutoff=4.0, angular_cutoff=3.0, l_max=(2, 1, 0), n_neurons=4, seed=3
    )
    structures = []
    for seed in range(6):
        atoms = make_atoms(seed, config_type=f"kind {seed % 2}")
        atoms.calc = QNEP(teacher)
        atoms.get_forces()
        atoms.get_stress()
        structures.append(atoms)
    path = tmp_path / "train.xyz"
    write(path, structures, format="extxyz")
    return path
