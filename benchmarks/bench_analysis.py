"""Species and reactions of long trajectories

The trajectory is ethylene carbonate under thermal noise; in every frame one molecule in a thousand loses ethylene for
good. Each case runs in a process of its own, reading included, start of Python and imports not:
`python benchmarks/bench_analysis.py --atoms 51840 --frames 40 --format lammpstrj`.
"""

from __future__ import annotations

import argparse
import gzip
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from harness import table

from qnep.analysis import open_trajectory
from qnep.analysis.prefetch import prefetch
from qnep.analysis.species import SpeciesAnalysis

# Ethylene carbonate, Å (GFN2-xTB): O=C, ring O C C O, four H
EC_NUMBERS = np.array([8, 6, 8, 6, 6, 8, 1, 1, 1, 1])
EC_POSITIONS = np.array(
    [
        [2.27, 0.0, 0.0], [1.09, 0.0, 0.0], [0.33, 1.10, 0.10], [-1.05, 0.75, -0.12],
        [-1.05, -0.75, 0.12], [0.33, -1.10, -0.10], [-1.37, 0.92, -1.15], [-1.66, 1.31, 0.58],
        [-1.37, -0.92, 1.15], [-1.66, -1.31, -0.58],
    ]
)  # fmt: skip
LATTICE = np.array(
    [6.2, 4.6, 4.8]
)  # Å: no contacts between molecules; 0.073 atoms per Å3 (liquid 0.091)
ETHYLENE = np.array([3, 4, 6, 7, 8, 9])


def lattice_of_molecules(n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions [n_molecules, 10, 3] and the edges of the cell [3]."""
    per_edge = int(np.ceil((n_atoms / 10) ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(per_edge)] * 3, indexing="ij"), -1).reshape(-1, 3)
    grid = grid[: n_atoms // 10]
    return LATTICE * (grid + 0.5)[:, None, :] + EC_POSITIONS, LATTICE * per_edge


def write_trajectory(path: Path, n_atoms: int, n_frames: int, style: str) -> None:
    """Write the trajectory, 100 fs per frame."""
    rng = np.random.default_rng(0)
    positions, edges = lattice_of_molecules(n_atoms)
    numbers = np.tile(EC_NUMBERS, len(positions))
    symbols = [chemical_symbols[z] for z in numbers]
    n_reacting = max(1, len(positions) // 1000)
    gone = rng.permutation(len(positions))
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt") as file:
        for k in range(n_frames):
            for molecule in gone[k * n_reacting : (k + 1) * n_reacting]:
                positions[molecule, ETHYLENE, 2] += 1.95
            now = (
                positions.reshape(-1, 3) + np.clip(rng.normal(size=(len(numbers), 3)), -2, 2) * 0.03
            )
            file.write(header(style, k, len(numbers), edges))
            rows = zip(range(1, len(numbers) + 1), symbols, now.tolist())
            if style == "lammpstrj":
                file.write(
                    "".join(f"{i} {s} {x:.5f} {y:.5f} {z:.5f} 0.1\n" for i, s, (x, y, z) in rows)
                )
            else:
                file.write("".join(f"{s} {x:.5f} {y:.5f} {z:.5f}\n" for _, s, (x, y, z) in rows))


def header(style: str, k: int, n_atoms: int, edges: np.ndarray) -> str:
    """Return the lines before the atoms."""
    if style == "lammpstrj":
        bounds = "".join(f"0 {edge}\n" for edge in edges)
        return (
            f"ITEM: TIMESTEP\n{100 * k}\nITEM: NUMBER OF ATOMS\n{n_atoms}\n"
            f"ITEM: BOX BOUNDS pp pp pp\n{bounds}ITEM: ATOMS id element x y z q\n"
        )
    lattice = " ".join(map(str, np.diag(edges).ravel()))
    return (
        f'{n_atoms}\nTime={100.0 * k} pbc="T T T" Lattice="{lattice}" '
        "Properties=species:S:1:pos:R:3\n"
    )


def analyse(path: Path) -> str:
    """Return seconds, seconds of CPU, numbers of reactions and species, and peak MiB as one line."""
    start, cpu_start = time.perf_counter(), time.process_time()
    analysis = SpeciesAnalysis()
    for frame in prefetch(open_trajectory(path, timestep_fs=1.0)):
        analysis.add(frame)
    result = analysis.result()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"{seconds:.2f} {cpu:.2f} {len(result.reactions)} {len(result.species)} {peak:.0f}"


CASES = (  # atoms, frames, format, is it gzipped?
    (51840, 40, "lammpstrj", False),
    (51840, 80, "lammpstrj", False),
    (51840, 40, "lammpstrj", True),
    (51840, 40, "xyz", False),
    (62500, 8, "lammpstrj", False),
    (250000, 8, "lammpstrj", False),
    (1000000, 8, "lammpstrj", False),
)


def measure() -> str:
    """Run all cases, and return the section of the results."""
    rows = []
    for atoms, frames, style, is_gzipped in CASES:
        arguments = [f"--atoms={atoms}", f"--frames={frames}", f"--format={style}"]
        command = [sys.executable, __file__, *arguments, *(["--gzip"] if is_gzipped else [])]
        seconds, cpu, reactions, species, peak = subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.split()
        per_atom = 1e6 * float(cpu) / (atoms * frames)
        name = style + (".gz" if is_gzipped else "")
        rows.append((atoms, frames, name, seconds, cpu, per_atom, reactions, species, peak))
    header = (
        "atoms", "frames", "format", "seconds", "s of CPU", "µs of CPU per atom and frame", "reactions",
        "species", "peak MiB",
    )  # fmt: skip
    return table(header, rows) + (
        "\n\nTwo threads: one reads, one analyses. ReaxTools publishes 9.4 s on 4 threads for 51,840 atoms and "
        "40 frames, on another machine and another trajectory. Twice the frames need no more memory. "
        "In the first frame every molecule is labelled, which weighs where frames are few: compare sizes at 8 frames."
    )


def main() -> None:
    """Write one trajectory, analyse it, print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms", type=int, default=51840)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--format", choices=("lammpstrj", "xyz"), default="lammpstrj")
    parser.add_argument("--gzip", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"run.{options.format}{'.gz' if options.gzip else ''}"
        write_trajectory(path, options.atoms, options.frames, options.format)
        print(analyse(path))


if __name__ == "__main__":
    main()
