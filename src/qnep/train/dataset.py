"""Reading labelled structures and dividing them into training, validation and test sets by trajectory."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from qnep.io import iread_frames
from qnep.train.frames import Frame, FrameReader, require_labels
from qnep.train.settings import SettingsError

N_BLOCKS = 10  # of structures without a trajectory: few have a neighbour in time in another block


@dataclass(frozen=True)
class DataSet:
    """Labelled structures in three parts; `description` says how they were divided."""

    training: list[Frame]
    validation: list[Frame]
    test: list[Frame]
    description: str


def load_frames(
    paths: Sequence[str | Path], elements: Sequence[str], with_charges: bool = False
) -> list[Frame]:
    """Read all structures of some files for a model with or without charges.

    Raises
    ------
    FrameError, OSError : what cannot be used, naming file and frame.
    SettingsError : no structures at all.
    """
    reader = FrameReader(elements, with_charges)
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

    Raises
    ------
    SettingsError : nothing is left for training, or no trajectory is small enough for a part that is wanted.
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
        nameless = groups.pop("", [])
        blocks = _blocks(nameless, min(filter(None, n_wanted)))
        how = f"{len(groups)} trajectories, none divided"
        if blocks:
            how += f", and {len(nameless)} structures without one in {len(blocks)} blocks"
        held_out = _whole_groups([groups[name] for name in sorted(groups)] + blocks, n_wanted, seed)
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


def _blocks(indices: Sequence[int], largest: int) -> list[list[int]]:
    """Return consecutive blocks: `N_BLOCKS`, or more where they would be larger than what is to be held out."""
    if not indices:
        return []
    size = min(largest, -(-len(indices) // N_BLOCKS))
    return [list(indices[start : start + size]) for start in range(0, len(indices), size)]


def _whole_groups(
    groups: Sequence[list[int]], n_wanted: Sequence[int], seed: int
) -> list[list[int]]:
    """Return parts of about the sizes wanted; a group joins only if that brings the size closer."""
    random = np.random.default_rng(seed)
    queue = [groups[i] for i in random.permutation(len(groups))]
    held_out: list[list[int]] = []
    for wanted in n_wanted:
        part: list[int] = []
        left: list[list[int]] = []
        while queue:
            group = queue.pop()
            is_closer = abs(len(part) + len(group) - wanted) < abs(len(part) - wanted)
            if is_closer:
                part += group
            else:
                left.append(group)
        if wanted and not part:
            sizes = sorted(map(len, left))
            raise SettingsError(
                f"no trajectory is small enough to hold out {wanted} structures "
                f"(sizes: {', '.join(map(str, sizes[:5]))}{' ...' if sizes[5:] else ''}); "
                "hold out a larger fraction, or give files for `validation` and `test`"
            )
        queue = left[::-1]
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
    """Return the ASE calculator that "package.module:function" makes; modules of the working folder are found too.

    Raises
    ------
    SettingsError : no such module or function.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise SettingsError(f'baseline must be "package.module:function", got {path!r}')
    working_folder = str(Path.cwd())
    if working_folder not in sys.path:
        sys.path.append(working_folder)  # last, so that it hides no installed package
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as failure:
        raise SettingsError(
            f'baseline must be "package.module:function", installed or in {working_folder}; '
            f"got {path!r}: {failure}"
        ) from failure
    return function()


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
            [elements[t] for t in frame.types], frame.positions, cell=frame.cell, pbc=frame.pbc
        )
        atoms.info["charge"] = frame.total_charge
        atoms.calc = calculator
        forces = atoms.get_forces()
        virial = np.zeros((3, 3))
        if frame.virial is not None:
            virial = -atoms.get_stress(voigt=False) * frame.volume
        result.append(frame.without(atoms.get_potential_energy(), forces, virial))
    return result
