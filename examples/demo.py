"""The demo: the whole main job on a small cell, from an empty folder to a page that can be mailed.

`make demo` runs it, in about two minutes on two cores. Each step is a command that can be used on its own:

1. `qnep build`: sodium | ethylene carbonate + NaPF6, about 400 atoms;
2. the model: what it is, a first evaluation, and a relaxation with ASE;
3. `qnep md`: 2 ps at 450 K in LAMMPS with `pair_style qnep`;
4. `qnep deposit`: PLUMED carries ions to the metal, one per 1.5 ps;
5. `qnep analyse`: species, solvation, layers, crystals over both runs;
6. `qnep report`: one page.

What it writes goes to `demo/`; the page is `demo/report.html`. `python examples/demo.py --help` shows how to make it
shorter or longer.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from ase.io import read
from ase.optimize import FIRE
from matplotlib import pyplot
from tqdm import tqdm

from qnep import QNEP
from qnep.analysis import Frame, open_trajectory
from qnep.analysis.figures import write_figures
from qnep.analysis.findings import Findings
from qnep.analysis.pipeline import Pipeline, PipelineSettings
from qnep.build import write_all
from qnep.cli import main as qnep
from qnep.deposit import Deposition, ForceField, LammpsProgram, Protocol, choose_regions
from qnep.model import Model, describe
from qnep.report import build_page
from qnep.report.page import RunFacts
from qnep.report.run_folder import RunFolder
from qnep.report.thermo_log import read_thermo

MODEL = Path(__file__).resolve().parents[1] / "models" / "na-sei-6" / "nep.txt"
TEMPERATURE = 450.0  # K
TIMESTEP_FS = 0.5
ARRIVAL_HEIGHT = (
    4.0  # Å above the metal's surface; solvated ions are farther away, adsorbed ones nearer
)
FRAME_FS = 20.0  # between frames
RELAXED_FORCE, RELAXATION_STEPS = 0.1, 200  # eV/Å
ELEMENTS = ("C", "F", "H", "Na", "O", "P")

NOT_YET_PHYSICAL = (
    "This is a demonstration: every part that runs is real, the chemistry is a first draft. The model na-sei-6 "
    "was fitted to 436 small DFT frames and 3,327 of a universal potential. PF₆⁻ loses all its fluorine at the "
    "metal; EC opens and leaves carbonate and ethylene, mostly after longer than this run. Both are known reactions, "
    "but no rate or share of products has been validated.",
    "At 450 K sodium is above its melting point (371 K). Its atoms count as Na⁺ once fewer than three of their "
    "neighbours are metal; a slab of 54 atoms loses a third of them to the molecules around it within some ps.",
    "Charges: the data hold no Born charges; those of the model were held near GFN1-xTB's. Take their order, not "
    "their size.",
    "Ions are carried within 1.5 ps instead of 0.1 ns (published protocol) or of seconds (a battery). The bias "
    "work is no free energy, and an ion that is released on the surface may leave it again.",
    "Some hundred atoms at constant volume for some ps: diffusion, densities and pressures are not converged.",
)


def say(step: int, text: str) -> None:
    """Announce a step."""
    print(f"\n[{step}/6] {text}", flush=True)


def run_command(*words: object) -> None:
    """Run a command of qnep as the shell would, and show it."""
    texts = [str(word) for word in words]
    print("$ qnep " + " ".join(texts), flush=True)
    status = qnep(texts)
    if status:
        raise SystemExit(status)


def build(folder: Path) -> tuple[Atoms, Any]:
    """Build the cell; return it, shifted so that the metal lies in its middle, and its regions."""
    run_command(
        "build", "interface", "--solid", "Na", "--width", 12.8, "--thickness", 10, "--solvent", "EC",
        "--salt", "NaPF6", "--molarity", 1.5, "--atoms", 400, "-o", folder / "built",
    )  # fmt: skip
    atoms, regions = choose_regions(read(folder / "built.extxyz"))
    return atoms, regions


def show_model(atoms: Atoms) -> Atoms:
    """Print what the model is, and energy, forces and charges of the built cell; return the cell, relaxed a little.

    A packed cell is far from a minimum: without this the first picosecond would be 300 K too hot.
    """
    model = Model.read(str(MODEL))
    print("\n".join(f"{name:<18} {value}" for name, value in describe(model)))
    evaluated = atoms.copy()
    evaluated.calc = QNEP(model)
    energy, forces = evaluated.get_potential_energy(), evaluated.get_forces()
    charges = evaluated.get_charges()
    symbols = np.array(evaluated.get_chemical_symbols())
    print(f"{len(atoms)} atoms: {energy:.3f} eV, largest force {np.abs(forces).max():.2f} eV/Å")
    FIRE(evaluated, logfile=None).run(fmax=RELAXED_FORCE, steps=RELAXATION_STEPS)
    print(f"relaxed: {evaluated.get_potential_energy():.3f} eV")
    means = ", ".join(f"{one} {charges[symbols == one].mean():+.2f}" for one in ELEMENTS)
    print(f"mean charges (e): {means}; sum {charges.sum():+.1e}")
    relaxed = atoms.copy()
    relaxed.positions = evaluated.positions
    return relaxed


def run_dynamics(folder: Path, time_ps: float) -> None:
    """Equilibrate in LAMMPS."""
    run_command(
        "md", folder / "cell.extxyz", MODEL, "--folder", folder / "md", "--temperature", TEMPERATURE,
        "--timestep", TIMESTEP_FS, "--steps", round(1000 * time_ps / TIMESTEP_FS), "--threads", 2,
        "--trajectory-interval", round(FRAME_FS / TIMESTEP_FS), "--thermo-interval", 20,
    )  # fmt: skip


def last_frame(path: Path, like: Atoms) -> Atoms:
    """Return a structure with the positions of a trajectory's last frame."""
    *_, last = open_trajectory(path, timestep_fs=TIMESTEP_FS, units="metal")
    atoms = like.copy()
    if not np.array_equal(atoms.numbers, last.numbers):
        raise RuntimeError(f"{path} has other atoms than the cell that was built")
    atoms.positions = last.positions
    return atoms


def deposit(folder: Path, atoms: Atoms, regions: Any, n_ions: int, interval_ps: float) -> None:
    """Carry ions to the metal, one per interval, and show each row of the table."""
    protocol = Protocol(
        temperature=TEMPERATURE,
        timestep_fs=TIMESTEP_FS,
        dump_ps=FRAME_FS / 1000,
        interval_ps=interval_ps,
        equilibration_ps=0.2,
        bias="moving",
        spring=5.0,
        arrival_height=ARRIVAL_HEIGHT,
        release_height=2.8,
    )
    program = LammpsProgram(LammpsProgram.find().command, {"OMP_NUM_THREADS": "2"})
    run = Deposition.start(
        folder, atoms, regions, ForceField.from_model(MODEL, ELEMENTS), protocol, program
    )
    with tqdm(total=n_ions, desc="deposit", unit="ion") as bar:

        def show(row: dict[str, Any]) -> None:
            arrival = row["arrival_ps"]
            fate = "arrived" if arrival is not None else "did not arrive"
            place = (
                f"{row['deposited']} on the metal, {row['in_electrolyte']} in the electrolyte, "
                f"bias work {row['bias_work_eV']:.2f} eV"
            )
            tqdm.write(
                f"  ion {row['ion']} {fate}: {place}" if row["interval"] else f"  start: {place}"
            )
            bar.update(row["interval"] - bar.n)

        run.run(n_ions, show)


def all_frames(folder: Path) -> Iterator[Frame]:
    """Yield the frames of both runs on one axis of time."""
    start = index = 0
    for path in (folder / "md" / "trajectory.lammpstrj", folder / "deposition" / "trajectory.dump"):
        end = start
        for frame in open_trajectory(path, timestep_fs=TIMESTEP_FS, units="metal"):
            end = start + frame.time
            yield replace(frame, index=index, time_fs=end)
            index += 1
        start = end


def analyse(folder: Path) -> Findings:
    """Analyse both runs in one pass."""
    pipeline = Pipeline(PipelineSettings(stride=2))
    for frame in tqdm(all_frames(folder), desc="analyse", unit="frame"):
        pipeline.add(frame)
    findings = pipeline.findings()
    findings.write(folder / "analysis")
    write_figures(findings, folder / "analysis", ["png"])
    for table in findings.tables:
        if table.name == "species_table":
            print(f"{'species':<12}{'at the start':>14}{'at the end':>12}{'model charge / e':>18}")
            for row in table.rows:
                print(f"{row[0]:<12}{row[6]:>14}{row[8]:>12}{row[4]:>18}")
    return findings


def report(folder: Path, findings: Findings) -> Path:
    """Write the page."""
    md, deposition = RunFolder(folder / "md"), RunFolder(folder / "deposition")
    whole = md.history()
    whole.extend(deposition.history())
    whole.extend(findings)
    whole.notes[:0] = NOT_YET_PHYSICAL
    found = md.facts()
    texts = {
        "model card": MODEL.with_name("README.md").read_text(encoding="utf-8"),
        **found.texts,
        "plumed.dat of the first ion": (folder / "deposition/interval_0001/plumed.dat").read_text(),
    }
    facts = RunFacts("Demo: sodium | EC + NaPF₆ at 450 K", found.facts, found.model, texts)
    page = folder / "report.html"
    page.write_text(build_page(facts, whole), encoding="utf-8")
    return page


def draw(folder: Path, atoms: Atoms, regions: Any) -> Path:
    """One picture of the run: the last frame, the temperature, and how high each ion is above the metal."""
    frames = list(all_frames(folder))
    time_ps = np.array([frame.time for frame in frames]) / 1000
    ions = [i for i in regions.electrolyte if atoms.symbols[i] == "Na"]
    heights = np.array([heights_now(frame, regions)[ions] for frame in frames])
    figure, axes = pyplot.subplot_mosaic(
        [["cell", "cell"], ["temperature", "heights"]],
        figsize=(11, 6.5),
        height_ratios=[1.1, 1.0],
        layout="constrained",
    )
    draw_cell(axes["cell"], frames[-1], ions)
    axes["cell"].set_title(
        "the last frame: metal in the middle, ions of the salt outlined", loc="left"
    )
    for path in (folder / "md" / "log.lammps", *sorted(folder.glob("deposition/*/in.lammps.log"))):
        thermo = read_thermo(path)
        start = 0.0 if path.parent.name == "md" else time_ps[-1] - last_time(folder / "deposition")
        axes["temperature"].plot(
            start + np.array(thermo["Step"]) * TIMESTEP_FS / 1000,
            thermo["Temp"],
            color="C3",
            lw=0.9,
        )
    axes["temperature"].axhline(TEMPERATURE, color="0.6", lw=0.8)
    axes["temperature"].set(xlabel="time, ps", ylabel="temperature, K")
    for k, ion in enumerate(ions):
        axes["heights"].plot(time_ps, heights[:, k], label=f"ion {ion}")
    axes["heights"].axhspan(0.0, ARRIVAL_HEIGHT, color="0.9", lw=0)
    axes["heights"].axvline(
        time_ps[-1] - last_time(folder / "deposition"), color="k", lw=0.8, ls=":"
    )
    axes["heights"].set(xlabel="time, ps", ylabel="height above the metal, Å")
    axes["heights"].set_title(
        "right of the dots: PLUMED carries; grey: deposited", loc="left", fontsize=9
    )
    bottom, top = axes["heights"].get_ylim()
    axes["heights"].set_ylim(bottom, top + 0.12 * (top - bottom))  # room for the legend
    axes["heights"].legend(frameon=False, ncols=4, fontsize=8, loc="upper center")
    path = folder / "demo.png"
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def last_time(folder: Path) -> float:
    """Return the length of a deposition, ps."""
    *_, last = open_trajectory(folder / "trajectory.dump", timestep_fs=TIMESTEP_FS, units="metal")
    return last.time / 1000


def heights_now(frame: Frame, regions: Any) -> np.ndarray:
    """Return the heights of all atoms above the metal's surface of the moment, Å."""
    now = regions.with_surface_of(frame.positions, frame.cell, ())
    return now.heights(frame.positions)


def draw_cell(axes: Any, frame: Frame, ions: list[int]) -> None:
    """Draw atoms from the side, the normal to the right, the near ones on top."""
    order = np.argsort(frame.positions[:, 1])
    numbers = frame.numbers[order]
    edges = ["k" if i in ions else "none" for i in order]
    axes.scatter(
        *frame.positions[order][:, [2, 0]].T,
        s=130 * covalent_radii[numbers] ** 2,
        c=jmol_colors[numbers],
        edgecolors=edges,
        linewidths=1.6,
    )
    axes.set(xlabel="z, Å", ylabel="x, Å", aspect="equal", facecolor="#30343b")
    axes.set(xlim=(0, frame.cell[2, 2]), ylim=(0, frame.cell[0, 0]))


def main() -> None:
    """Build, run, deposit, analyse, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="is emptied first")
    parser.add_argument("--md-ps", type=float, default=2.0, help="dynamics without bias")
    parser.add_argument("--ions", type=int, default=3, help="to carry")
    parser.add_argument("--interval-ps", type=float, default=1.5, help="time for one ion")
    options = parser.parse_args()
    started = time.monotonic()
    folder: Path = options.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    say(1, "build sodium | EC + NaPF6")
    atoms, regions = build(folder)
    say(2, "the model")
    atoms = show_model(atoms)
    write_all(atoms, folder / "cell", elements=list(ELEMENTS))
    say(3, f"molecular dynamics in LAMMPS, {options.md_ps:g} ps at {TEMPERATURE:g} K")
    run_dynamics(folder, options.md_ps)
    say(4, f"deposit {options.ions} Na with PLUMED")
    moved = last_frame(folder / "md" / "trajectory.lammpstrj", atoms)
    deposit(folder / "deposition", moved, regions, options.ions, options.interval_ps)
    say(5, "analyse")
    findings = analyse(folder)
    say(6, "report")
    page = report(folder, findings)
    print(f"page: {page}\npicture: {draw(folder, atoms, regions)}")
    print(f"{time.monotonic() - started:.0f} s. Not yet physical: see 'To know' on the page.")


if __name__ == "__main__":
    main()
