"""Reading labelled structures and dividing them into training, validation and test sets by trajectory."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from qnep.io import iread_frames
from qnep.train.frames import Frame, FrameReader, require_labels
from qnep.train.settings import SettingsError


@dataclass(frozen=True)
class DataSet:
    """Labelled structures in three parts; `description` says how they were divided."""

    training: list[Frame]
    validation: list[Frame]
    test: list[Frame]
    description: str


def load_frames(paths: Sequence[str | Path], elements: Sequence[str]) -> list[Frame]:
    """Read all structures of some files; raises FrameError or OSError naming file and frame."""
    reader = FrameReader(elements)
    frames = []
    for path in paths:
        for index, atoms in enumerate(iread_frames(path)):
            frames.append(reader.read(atoms, f"{path}, frame {index}"))
    if not frames:
        raise SettingsError(
            f"no structures in {', '.join(map(str, paths)) or 'an empty list of files'}"
        )
    require_labels(frames)
    return frames


def split_by_trajectory(
    frames: Sequence[Frame], validation_fraction: float, test_fraction: float, seed: int
) -> DataSet:
    """Hold out whole trajectories, so that no structure is judged by its neighbour in time.

    The trajectory of a structure is its key trajectory=, group= or source=. Structures without one, or a single
    trajectory, are divided in contiguous blocks.
    """
    n_wanted = [round(fraction * len(frames)) for fraction in (validation_fraction, test_fraction)]
    if not any(n_wanted):
        return DataSet(list(frames), [], [], f"{len(frames)} structures, all for training")
    groups: dict[str, list[int]] = {}
    for index, frame in enumerate(frames):
        groups.setdefault(frame.group, []).append(index)
    if len(groups) == 1:
        held_out, how = _last_blocks(len(frames), n_wanted), "contiguous blocks of one trajectory"
    else:
        held_out, how = (
            _whole_groups(groups, n_wanted, seed),
            f"{len(groups)} trajectories, none divided",
        )
    parts = [[frames[i] for i in indices] for indices in held_out]
    used = set(held_out[0]) | set(held_out[1])
    training = [frame for index, frame in enumerate(frames) if index not in used]
    if not training:
        raise SettingsError("nothing is left for training; hold out less")
    sizes = (
        f"{len(training)} for training, {len(parts[0])} for validation, {len(parts[1])} for testing"
    )
    return DataSet(training, parts[0], parts[1], f"{sizes}; {how}")


def _last_blocks(n_frames: int, n_wanted: Sequence[int]) -> list[list[int]]:
    test_start = n_frames - n_wanted[1]
    validation_start = test_start - n_wanted[0]
    return [list(range(validation_start, test_start)), list(range(test_start, n_frames))]


def _whole_groups(
    groups: dict[str, list[int]], n_wanted: Sequence[int], seed: int
) -> list[list[int]]:
    random = np.random.default_rng(seed)
    names = sorted(groups)
    queue = [groups[names[i]] for i in random.permutation(len(names))]
    held_out: list[list[int]] = []
    for wanted in n_wanted:
        part: list[int] = []
        while len(part) < wanted and queue:
            part += queue.pop()
        held_out.append(sorted(part))
    return held_out


def sample_frames(frames: Sequence[Frame], n_wanted: int, seed: int) -> list[Frame]:
    """Return a random selection in the old order; all of them if `n_wanted` is 0 or too large."""
    if not 0 < n_wanted < len(frames):
        return list(frames)
    chosen = np.random.default_rng(seed).choice(len(frames), size=n_wanted, replace=False)
    return [frames[i] for i in sorted(chosen)]


def with_weight(frames: Sequence[Frame], factor: float) -> list[Frame]:
    """Return the frames with their weights multiplied."""
    return [replace(frame, weight=frame.weight * factor) for frame in frames]


def load_baseline(path: str) -> Any:
    """Return the ASE calculator that "package.module:function" makes."""
    module, _, name = path.partition(":")
    if not name:
        raise SettingsError(f'baseline must be "package.module:function", got {path!r}')
    return getattr(importlib.import_module(module), name)()


def subtract_calculator(
    frames: Sequence[Frame], elements: Sequence[str], calculator: Any
) -> list[Frame]:
    """Take the energies, forces and stresses of an ASE calculator off the labels.

    With charge equilibration at the total charge of each structure this is the reference E_DFT - E_QEq of models at
    constant potential (Nat. Commun. 2025, doi:10.1038/s41467-025-62824-5); the total charge is in
    `atoms.info["charge"]`.
    """
    result = []
    for frame in frames:
        atoms = Atoms(
            [elements[t] for t in frame.types], frame.positions, cell=frame.cell, pbc=True
        )
        atoms.info["charge"] = frame.total_charge
        atoms.calc = calculator
        forces = atoms.get_forces()
        virial = np.zeros((3, 3))
        if frame.virial is not None:
            virial = -atoms.get_stress(voigt=False) * frame.volume
        result.append(frame.without(atoms.get_potential_energy(), forces, virial))
    return result
