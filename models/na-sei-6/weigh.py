"""Writes train_2.xyz, train_3.xyz and teacher_2.xyz.gz, the data of the later stages (train_2.toml, train_3.toml).

The metal's energies count fifteen times, since a strain of two per cent is worth only 5 meV/atom, and not at all where
they are the teacher's, whose lattice constant is 0.05 Å shorter than that of DFT.
The opening of EC joins the DFT frames, and in the third stage the frames of trajectories do.
"""

import gzip
from io import StringIO
from pathlib import Path

from ase import Atoms
from ase.io import read, write

LABELS = Path(__file__).parents[2] / "data" / "na_sei"


def read_compressed(path: str | Path) -> list[Atoms]:
    """Return the frames of a file; unpacked first, for ASE seeks in compressed files, which takes minutes."""
    with gzip.open(path, "rt") as file:
        return read(StringIO(file.read()), ":", format="extxyz")


def is_metal(atoms: Atoms) -> bool:
    """Return whether a frame is solid or molten sodium: all of sodium, and not a dimer in a box."""
    return set(atoms.get_chemical_symbols()) == {"Na"} and atoms.get_volume() < 80.0 * len(atoms)


frames = read("train.xyz", ":")
for atoms in filter(is_metal, frames):
    atoms.info.update(weight=2.0, energy_weight=15.0)
opening = read("ec_opening.extxyz", ":")
for atoms in opening:
    atoms.info.update(weight=3.0, energy_weight=3.0)
write("train_2.xyz", frames + opening, format="extxyz")

trajectories = read_compressed(LABELS / "trajectories_train.extxyz.gz")
for atoms in trajectories:
    atoms.info.update(weight=3.0, energy_weight=3.0)
write("train_3.xyz", frames + opening + trajectories, format="extxyz")

frames = read_compressed("teacher.xyz.gz")
for atoms in frames:
    if set(atoms.get_chemical_symbols()) == {"Na"}:
        atoms.info["energy_weight"] = 0.0
write("teacher_2.xyz.gz", frames, format="extxyz")
