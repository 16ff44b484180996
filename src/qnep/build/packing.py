"""Packing molecules into a cell: packmol for blocks, blocks side by side for large cells, then a push apart."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import iread, write
from scipy.spatial.transform import Rotation

from qnep.build.molecules import make_molecule
from qnep.build.relax import push_apart

TOLERANCE = 2.0  # Å between atoms of different molecules, packmol's own default
WALL_MARGIN = 1.0  # Å that stays free at an outer face
BLOCK_MARGIN = 0.4  # Å at the face between two blocks; the push apart opens what comes too close
N_CANDIDATES = 30  # tried for each ion
BLOCK_ATOMS = 1500  # packmol needs seconds for this many and grows faster than linearly
N_CONFORMERS = 4
TIME_LIMIT_S = 120


class PackingError(ValueError):
    """The molecules do not fit."""


def pack(
    counts: Mapping[str, int],
    cell: np.ndarray,
    seed: int = 1,
    is_periodic: tuple[bool, bool, bool] = (True, True, True),
) -> Atoms:
    """Return molecules packed into a cell, whole, none closer to another than `push_apart` allows.

    Cells with more than 1,500 atoms are filled block by block: the blocks are slices of the cell with their share of
    every species, packed with seeds of their own, and pushed apart together afterwards.

    Parameters
    ----------
    counts : molecules by name.
    cell : (3, 3) array, Å; vectors are rows. Packing happens in fractional slices, so triclinic cells work.
    seed : of the packing and of the conformers.
    is_periodic : whether molecules may reach across each face. A face that is not periodic keeps half of the
        tolerance free.

    Returns
    -------
    Atoms with the arrays ``molecule_id`` (counted from 1) and ``initial_charges``; ``info["molecules"]`` names them.

    Raises
    ------
    PackingError : no packing found, as for a density that is too high.
    """
    lengths = _orthogonal_lengths(cell)
    generator = np.random.default_rng(seed)
    conformers = {
        name: [make_molecule(name, seed + k) for k in range(N_CONFORMERS)] for name in counts
    }
    n_atoms = sum(count * len(conformers[name][0]) for name, count in counts.items())
    blocks = _split(lengths, n_atoms)
    shares = _share(counts, int(np.prod(blocks)), generator)
    size = lengths / blocks
    packed = []
    for k, index in enumerate(np.ndindex(*blocks)):
        margins = _margins(np.array(index), np.array(blocks), is_periodic)
        block = _pack_block(shares[k], conformers, size, margins, generator)
        block.positions += size * np.array(index)
        packed.append(block)
    result = _join(packed, cell, lengths)
    result.pbc = is_periodic
    return push_apart(result)


def _orthogonal_lengths(cell: np.ndarray) -> np.ndarray:
    """Lengths of a box with the volume of the cell, in which packmol works; skewed back afterwards.

    For a cell in LAMMPS's form (lower triangular) these are the diagonal elements: the box is a sheared image of the
    cell that tiles space like it does.
    """
    if np.abs(np.triu(cell, 1)).max() > 1e-9 or (np.diag(cell) <= 0).any():
        raise ValueError(
            "cell vectors must be lower triangular with a positive diagonal (a along x, b in the xy plane)"
        )
    return np.diag(cell).copy()


def _split(lengths: np.ndarray, n_atoms: int) -> tuple[int, int, int]:
    """Numbers of blocks along the axes: cut the longest side until blocks are small enough."""
    blocks = np.ones(3, dtype=int)
    while n_atoms / blocks.prod() > BLOCK_ATOMS:
        blocks[np.argmax(lengths / blocks)] += 1
    return int(blocks[0]), int(blocks[1]), int(blocks[2])


def _share(
    counts: Mapping[str, int], n_blocks: int, generator: np.random.Generator
) -> list[dict[str, int]]:
    """Deal molecules to blocks evenly; what is left over goes to blocks at random."""
    shares: list[dict[str, int]] = [{} for _ in range(n_blocks)]
    for name, count in counts.items():
        extra = set(generator.permutation(n_blocks)[: count % n_blocks])
        for k, share in enumerate(shares):
            share[name] = count // n_blocks + (k in extra)
    return shares


def _margins(
    index: np.ndarray, blocks: np.ndarray, is_periodic: tuple[bool, bool, bool]
) -> np.ndarray:
    """Return the free space at the lower and upper face along each axis; [3, 2], Å."""
    margins = np.full((3, 2), BLOCK_MARGIN)
    for axis in range(3):
        if is_periodic[axis]:
            if blocks[axis] == 1:  # its own neighbour, which packmol knows
                margins[axis] = 0.0
            continue
        if index[axis] == 0:
            margins[axis, 0] = WALL_MARGIN
        if index[axis] == blocks[axis] - 1:
            margins[axis, 1] = WALL_MARGIN
    return margins


def _pack_block(
    counts: Mapping[str, int],
    conformers: Mapping[str, list[Atoms]],
    lengths: np.ndarray,
    margins: np.ndarray,
    generator: np.random.Generator,
) -> Atoms:
    """Return one packed block: ions spread first, solvent packed around them."""
    pieces = [
        (molecule, count // N_CONFORMERS + (k < count % N_CONFORMERS))
        for name, count in counts.items()
        for k, molecule in enumerate(conformers[name])
    ]
    is_ion = [abs(molecule.get_initial_charges().sum()) > 0.5 for molecule, _ in pieces]
    solvent = [piece for piece, ion in zip(pieces, is_ion) if piece[1] and not ion]
    ions = [
        molecule for piece, ion in zip(pieces, is_ion) if ion for molecule in [piece[0]] * piece[1]
    ]
    # Left to itself packmol presses small ions into the corners of the box.
    placed = _spread(ions, lengths, margins, generator)
    if not solvent:
        return _assemble([(ion, 1) for ion in ions], placed)
    positions = _run_packmol(solvent, placed, lengths, margins, int(generator.integers(1, 10**6)))
    return _assemble([*((ion, 1) for ion in ions), *solvent], positions)


def _spread(
    ions: list[Atoms], lengths: np.ndarray, margins: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Return positions of all atoms of the ions, turned at random, each at the best of some random places.

    References
    ----------
    Mitchell, SIGGRAPH Comput. Graph. 25, 157 (1991), doi:10.1145/127719.122736 (best-candidate sampling)
    """
    centres = np.empty((0, 3))
    placed: dict[int, np.ndarray] = {}
    for k in generator.permutation(len(ions)):
        radius = np.linalg.norm(ions[k].positions, axis=1).max()
        # Where there is a margin the whole ion stays inside.
        inner = np.where(margins > 0, margins + radius, 0.0)
        low, high = inner[:, 0], np.maximum(lengths - inner[:, 1], inner[:, 0] + 0.1)
        candidates = generator.uniform(low, high, (N_CANDIDATES, 3))
        offsets = candidates[:, None] - centres[None]
        offsets -= np.round(offsets / lengths) * lengths
        room = np.linalg.norm(offsets, axis=2).min(axis=1, initial=np.inf)
        centres = np.vstack([centres, candidates[np.argmax(room)]])
        placed[int(k)] = ions[k].positions @ random_rotation(generator).T + centres[-1]
    return np.concatenate([np.empty((0, 3)), *(placed[k] for k in range(len(ions)))])


def random_rotation(generator: np.random.Generator) -> np.ndarray:
    """Return a uniformly distributed rotation matrix."""
    return Rotation.random(random_state=generator).as_matrix()


def _run_packmol(
    solvent: list[tuple[Atoms, int]],
    placed: np.ndarray,
    lengths: np.ndarray,
    margins: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Return the positions of what is placed and of solvent molecules packed around it."""
    with tempfile.TemporaryDirectory(prefix="qnep-packmol-") as name:
        folder = Path(name)
        text = _packmol_input(solvent, len(placed), lengths, margins, seed)
        (folder / "packmol.inp").write_text(text)
        for k, (molecule, _) in enumerate(solvent):
            write(folder / f"{k}.xyz", molecule, format="xyz")
        # packmol wants fixed atoms inside the box; the molecules themselves stay whole.
        write(folder / "placed.xyz", Atoms(f"X{len(placed)}", placed % lengths), format="xyz")
        with (folder / "packmol.inp").open() as stdin:  # packmol rewinds its input: no pipe
            try:
                run = subprocess.run(
                    [find_packmol()],
                    stdin=stdin,
                    cwd=folder,
                    capture_output=True,
                    text=True,
                    timeout=TIME_LIMIT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise PackingError(
                    f"packmol found no place for {_describe(solvent)} in {_size(lengths)} within {TIME_LIMIT_S} s: "
                    "lower the density"
                ) from None
        if not (folder / "packed.xyz").exists():
            raise PackingError(f"packmol failed: {run.stdout[-500:]}")
        (packed,) = iread(folder / "packed.xyz")
        return np.vstack([placed, packed.positions[len(placed) :]])


def _packmol_input(
    solvent: list[tuple[Atoms, int]],
    n_placed: int,
    lengths: np.ndarray,
    margins: np.ndarray,
    seed: int,
) -> str:
    lines = [
        f"tolerance {TOLERANCE}",
        f"seed {seed}",
        "filetype xyz",
        "output packed.xyz",
        # The push apart afterwards finishes what is nearly done.
        "nloop 40",
        "precision 0.05",
        "pbc " + " ".join(f"{length:.4f}" for length in lengths),
    ]
    if n_placed:
        lines += [
            "structure placed.xyz",
            "  number 1",
            "  fixed 0. 0. 0. 0. 0. 0.",
            "end structure",
        ]
    walls = []
    for axis in np.flatnonzero(margins.any(axis=1)):
        normal = " ".join(str(value) for value in np.eye(3, dtype=int)[axis])
        walls.append(f"  over plane {normal} {margins[axis, 0]}")
        walls.append(f"  below plane {normal} {lengths[axis] - margins[axis, 1]:.4f}")
    for k, (_, count) in enumerate(solvent):
        lines += [f"structure {k}.xyz", f"  number {count}", *walls, "end structure"]
    return "\n".join(lines) + "\n"


def _assemble(pieces: list[tuple[Atoms, int]], positions: np.ndarray) -> Atoms:
    """Give packmol's positions their elements, charges and molecule numbers."""
    copies = [molecule for molecule, count in pieces for _ in range(count)]
    atoms = Atoms(np.concatenate([molecule.numbers for molecule in copies]), positions)
    atoms.set_initial_charges(
        np.concatenate([molecule.get_initial_charges() for molecule in copies])
    )
    sizes = [len(molecule) for molecule in copies]
    atoms.arrays["molecule_id"] = np.repeat(np.arange(1, len(copies) + 1), sizes)
    atoms.info["molecules"] = [molecule.info["name"] for molecule in copies]
    return atoms


def _join(blocks: list[Atoms], cell: np.ndarray, lengths: np.ndarray) -> Atoms:
    """Put blocks together in the cell; a molecule moves by the skew of its centre, so that it stays rigid."""
    result = Atoms(cell=cell)
    names: list[str] = []
    for block in blocks:
        block.arrays["molecule_id"] += len(names)
        names += block.info.pop("molecules")
        result += block
    result.info["molecules"] = names
    molecule_ids = result.arrays["molecule_id"] - 1
    counts = np.bincount(molecule_ids)
    centres = np.stack(
        [np.bincount(molecule_ids, result.positions[:, axis]) / counts for axis in range(3)], axis=1
    )
    skewed = centres / lengths @ cell
    result.positions += (skewed - centres)[molecule_ids]
    return result


def find_packmol() -> str:
    """Return the path of packmol 21 or newer, which knows periodic boxes.

    Raises
    ------
    OSError : there is none.
    """
    beside_python = Path(sys.executable).parent / "packmol"
    program = str(beside_python) if beside_python.exists() else shutil.which("packmol")
    if program is None:
        raise OSError("packmol is not installed: pip install 'qnep[build]'")
    return program


def _describe(solvent: list[tuple[Atoms, int]]) -> str:
    return ", ".join(f"{count} {molecule.info['name']}" for molecule, count in solvent)


def _size(lengths: np.ndarray) -> str:
    return " x ".join(f"{length:.1f}" for length in lengths) + " Å"
