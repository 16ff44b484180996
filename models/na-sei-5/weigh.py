"""Writes train_2.xyz and teacher_2.xyz.gz, the data of the second stage (train_2.toml), from those of the first.

The metal's energies count fifteen times, since a strain of two per cent is worth only 5 meV/atom, and not at all where
they are the teacher's, whose lattice constant is 0.05 Å shorter than that of DFT.
The opening of EC joins the DFT frames.
"""

import gzip
from io import StringIO

from ase import Atoms
from ase.io import read, write


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

# Unpacked first: ASE seeks in compressed files, which takes minutes.
with gzip.open("teacher.xyz.gz", "rt") as file:
    frames = read(StringIO(file.read()), ":", format="extxyz")
for atoms in frames:
    if set(atoms.get_chemical_symbols()) == {"Na"}:
        atoms.info["energy_weight"] = 0.0
write("teacher_2.xyz.gz", frames, format="extxyz")
