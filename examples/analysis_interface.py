"""Analyse an interface: what reacts at sodium metal, how the ions are solvated, what is crystalline.

Run it with any trajectory: ``python examples/analysis_interface.py run.lammpstrj --timestep 0.5``. Without one it
uses a stack of metal, NaF and solvent that it builds itself, so that every number can be checked by eye: 128 atoms of
metal, 4 layers of NaF, and one of two EC molecules that loses ethylene in frame 10.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from qnep.analysis import Frame, open_trajectory
from qnep.analysis.figures import write_figures
from qnep.analysis.pipeline import Pipeline, PipelineSettings
from qnep.report import build_page
from qnep.report.page import RunFacts

EC = Atoms(
    "OCOCCOH4",
    [
        [2.27, 0.00, 0.00], [1.09, 0.00, 0.00], [0.33, 1.10, 0.10], [-1.05, 0.75, -0.12],
        [-1.05, -0.75, 0.12], [0.33, -1.10, -0.10], [-1.37, 0.92, -1.15], [-1.66, 1.31, 0.58],
        [-1.37, -0.92, 1.15], [-1.66, -1.31, -0.58],
    ],
)  # fmt: skip
ETHYLENE = [3, 4, 6, 7, 8, 9]
EDGE = 18.52  # Å, four cells of NaF


def make_interface() -> Atoms:
    """Return metal, NaF on it, and two EC and a sodium ion above."""
    metal = bulk("Na", "bcc", a=4.22, cubic=True).repeat(4)
    metal.positions *= [EDGE / 16.88, EDGE / 16.88, 1.0]
    salt = bulk("NaF", "rocksalt", a=4.63, cubic=True).repeat(4)
    salt = salt[salt.positions[:, 2] < 9.2]
    salt.positions[:, 2] += 17.9
    atoms = metal + salt
    for x in (4.0, 13.0):
        molecule = EC.copy()
        molecule.positions += [x, 6.0, 38.0]
        atoms += molecule
    atoms += Atoms("Na", [[9.0, 14.0, 40.0]])
    atoms.set_cell([EDGE, EDGE, 60.0])
    atoms.pbc = True
    return atoms


def make_frames(n_frames: int = 30) -> Iterator[Frame]:
    """Yield the interface under thermal noise; the first EC loses ethylene in frame 10."""
    atoms = make_interface()
    first = len(atoms) - 21  # of the first EC
    rng = np.random.default_rng(0)
    for k in range(n_frames):
        moved = atoms.copy()
        if k >= 10:
            moved.positions[[first + i for i in ETHYLENE]] += [-3.0, 0.0, 0.0]
        moved.positions += np.clip(rng.normal(size=(len(atoms), 3)), -2, 2) * 0.06
        yield Frame.from_ase(moved, k, 20.0 * k)


def main() -> None:
    """Analyse, and write figures and a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trajectory", type=Path, nargs="?")
    parser.add_argument("--timestep", type=float, help="of the run, fs")
    parser.add_argument("-o", "--output", type=Path, default=Path("analysis_interface"))
    options = parser.parse_args()
    frames = (
        open_trajectory(options.trajectory, timestep_fs=options.timestep)
        if options.trajectory
        else make_frames()
    )
    pipeline = Pipeline(PipelineSettings())
    for frame in frames:
        pipeline.add(frame)
    findings = pipeline.findings()
    findings.write(options.output)
    write_figures(findings, options.output, ["png"])
    page = build_page(RunFacts("Interface of sodium, NaF and ethylene carbonate"), findings)
    (options.output / "report.html").write_text(page, encoding="utf-8")
    for table in findings.tables:
        if table.name in ("reactions", "nuclei"):
            print(table.title, *table.rows, sep="\n  ")
    print(f"figures and report.html are in {options.output}")


if __name__ == "__main__":
    main()
