"""Electrodes at constant potential: cost of the charges at 3,000 atoms, and conservation of energy over 20 ps.

The cell is built by `qnep build` and computed by the shipped model; energy is followed in a small cell on springs.
About two minutes.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import bcc100
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import Hookean
from ase.io import read, write
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from harness import Timing, ratios, table

from qnep import QNEP
from qnep.cli import main as qnep
from qnep.electrode import ConstantPotential, CoordinationMembership, Electrode
from qnep.electrode.slab import unwrap
from qnep.lammps.session import open_lammps
from qnep.model import Model, random_model

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "na-sei-seed" / "nep.txt"
ELEMENTS = "C F H Na O P"
ROUNDS = 4
STEPS = 25  # of each turn
WARM_UP = 20  # steps until the solver remembers its usual number of iterations

BUILD = "interface --electrodes 2 --solid Na --thickness 16 --width 29 --solvent EC --salt NaPF6 --atoms 3000"
SETUP = """units metal
atom_style charge
read_data cell.data
pair_style qnep kspace pppm 1e-5
pair_coeff * * {model} {elements}
neighbor 1.0 bin
timestep 0.0005
thermo 1000000
fix motion all nve
min_modify dmax 0.05
minimize 0 0.1 30 60
velocity all create 300 7 mom yes dist gaussian
run 20
"""
FIX = (
    "fix cell all qnep/conp {scheme} {elements} metal Na planes {plane:.6f} "
    "electrode lower potential -1 electrode upper potential 1"
)


def cost(folder: Path, scheme: str) -> tuple[Timing, Timing, float, int]:
    """CPU seconds per step without and with the fix, in turn, its median number of iterations, and the atoms."""
    if not (folder / "cell.data").exists():
        qnep(["build", *BUILD.split(), "--types", *ELEMENTS.split(), "-o", str(folder / "cell")])
    atoms: Any = read(folder / "cell.extxyz")
    fractions = unwrap(atoms.positions, atoms.cell.array, 2)[1]
    plane = 0.5 * (fractions.min() + fractions.max())
    seconds: dict[bool, list[float]] = {False: [], True: []}
    iterations = []
    with contextlib.chdir(folder), contextlib.closing(open_lammps()) as lammps:
        lammps.commands_string(SETUP.format(model=MODEL, elements=ELEMENTS))
        for _ in range(ROUNDS):
            for has_electrodes in (False, True):
                if has_electrodes:
                    lammps.command(FIX.format(scheme=scheme, elements=ELEMENTS, plane=plane))
                lammps.command(f"run {WARM_UP}")
                spent = 0.0
                for _ in range(STEPS):
                    start = time.process_time()
                    lammps.command("run 1 pre no post no")
                    spent += time.process_time() - start
                    if has_electrodes:
                        iterations.append(lammps.extract_fix("cell", 0, 1, 0))
                seconds[has_electrodes].append(spent / STEPS)
            lammps.command("unfix cell")
    without, added = Timing(tuple(seconds[False])), Timing(tuple(seconds[True]))
    return without, added, statistics.median(iterations), len(atoms)


class EveryThirdStep(Calculator):
    """The published way: charges and their forces are frozen for three steps."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE's own form)

    def __init__(self, base: Calculator, whole: ConstantPotential):
        super().__init__()
        self.base, self.whole = base, whole
        self.n_calls = 0

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate the potential, and each third time the charges."""
        super().calculate(atoms, properties, system_changes)
        alone = self.atoms.copy()
        alone.set_constraint()  # the springs, which ASE adds by itself
        alone.calc = self.base
        energy, forces = alone.get_potential_energy(), alone.get_forces()
        if self.n_calls % 3 == 0:
            alone.calc = self.whole
            self.added = (alone.get_potential_energy() - energy, alone.get_forces() - forces)
        self.n_calls += 1
        self.results = {"energy": energy + self.added[0], "forces": forces + self.added[1]}


def swinging_cell() -> tuple[Atoms, np.ndarray]:
    """Two sodium slabs and an adatom with velocities, and what springs pull on.

    The adatom's spring is soft and starts above the surface: it swings through the switch of its membership.
    """
    slab = bcc100("Na", (2, 2, 4), a=4.2)
    height = np.ptp(slab.positions[:, 2])
    upper = slab.copy()
    upper.positions[:, 2] += height + 14.0
    atoms = slab + upper + Atoms("Na", [[0.1, 0.3, height + 2.1]])
    atoms.set_cell([*slab.cell.lengths()[:2], 2 * height + 30.0])
    atoms.pbc = True
    atoms.positions[:, 2] += 8.0
    thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(4))
    sites = atoms.positions.copy()
    sites[-1, 2] += 1.5
    return atoms, sites


STIFFNESS, SOFT = 5.0, 0.5  # eV/Å²
DISTANCES, PLANE_WIDTH = (4.4, 5.6), 0.1
POTENTIALS = (-2.0, 6.0)
SWING = """units metal
atom_style charge
read_data swing.data
pair_style qnep
pair_coeff * * nep.txt Na
neighbor 1.0 bin
timestep 0.001
group adatom id 33
group slabs subtract all adatom
fix cell all qnep/conp equilibrated Na metal Na distances {distances} counts {counts} planes {plane:.12f} &
    plane_width {width} kspace ewald tolerance 1e-7 electrode lower potential {lower} electrode upper potential {upper}
fix slabs slabs spring/self {stiffness}
fix adatom adatom spring/self {soft}
fix_modify slabs energy yes
fix_modify adatom energy yes
displace_atoms adatom move 0 0 -1.5
fix motion all nve
compute weight adatom reduce sum f_cell[2]
variable weight equal c_weight
variable total equal etotal
thermo_style custom step etotal c_weight
thermo 30
run 0
"""


def drift(counts: tuple[float, float], length_ps: float = 20.0) -> list[object]:
    """Drift of the energy (eV/atom/ps), its largest change in 30 fs (eV/atom), and the range of the adatom's weight."""
    atoms, sites = swinging_cell()
    energies, weights = [], []
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        _small_model().write("nep.txt")
        atoms.positions = sites  # to which springs are tied when they are defined
        write(
            "swing.data",
            atoms,
            format="lammps-data",
            velocities=True,
            masses=True,
            units="metal",
            atom_style="charge",
        )
        with contextlib.closing(open_lammps()) as lammps:
            lammps.commands_string(
                SWING.format(
                    distances="{} {}".format(*DISTANCES),
                    counts="{} {}".format(*counts),
                    plane=_middle(atoms),
                    width=PLANE_WIDTH,
                    lower=POTENTIALS[0],
                    upper=POTENTIALS[1],
                    stiffness=STIFFNESS,
                    soft=SOFT,
                )
            )
            for _ in range(round(length_ps / 0.03)):
                lammps.command("run 30 pre no post no")
                energies.append(lammps.extract_variable("total") / len(atoms))
                weights.append(lammps.extract_variable("weight"))
    return _summary(energies, weights)


def published_drift(counts: tuple[float, float], length_ps: float = 5.0) -> list[object]:
    """The same with charges to 1e-2 e every third step."""
    atoms, sites = swinging_cell()
    stiffness = [STIFFNESS] * (len(atoms) - 1) + [SOFT]
    atoms.set_constraint(
        [Hookean(i, tuple(site), k, 0.0) for i, (site, k) in enumerate(zip(sites, stiffness))]
    )
    membership = CoordinationMembership(
        ["Na"], DISTANCES, counts, [_middle(atoms)], plane_width=PLANE_WIDTH
    )
    electrodes = [
        Electrode(side, potential_V=value) for side, value in zip(("lower", "upper"), POTENTIALS)
    ]
    base = QNEP(_small_model())
    whole = ConstantPotential(
        QNEP(_small_model()), electrodes, membership, "equilibrated", kspace="ewald", tolerance=1e-2
    )
    atoms.calc = EveryThirdStep(base, whole)
    energies, weights = [], []

    def observe() -> None:
        energies.append(atoms.get_total_energy() / len(atoms))
        fractions = atoms.positions[:, 2] / atoms.cell[2, 2]
        weights.append(membership.weights(atoms, fractions).values[0, -1])

    dynamics = VelocityVerlet(atoms, 1.0 * units.fs)
    dynamics.attach(observe, interval=30)  # a multiple of three: the frozen charges are fresh then
    with contextlib.suppress(ValueError):  # no electrode is left: the length in the table says when
        dynamics.run(round(1000 * length_ps))
    return _summary(energies, weights)


def _small_model() -> Model:
    return random_model(
        "Na", radial_cutoff=5.0, angular_cutoff=4.0, n_max=(2, 2), basis_size=(4, 4), seed=2
    )


def _middle(atoms: Atoms) -> float:
    heights = atoms.positions[:, 2]
    return float(0.5 * (heights.min() + heights.max()) / atoms.cell[2, 2])


def _summary(energies: list[float], weights: list[float]) -> list[object]:
    times = 0.03 * np.arange(len(energies))
    slope = float(np.polyfit(times, energies, 1)[0])
    jump = float(np.abs(np.diff(energies)).max())
    return [float(times[-1]), slope, jump, f"{min(weights):.2f} to {max(weights):.2f}"]


def measure() -> str:
    """Return both tables."""
    rows: list[Sequence[object]] = []
    with tempfile.TemporaryDirectory() as name:
        for scheme in ("induced", "equilibrated"):
            without, with_fix, iterations, n_atoms = cost(Path(name), scheme)
            ratio = ratios(with_fix, without) - 1
            rows.append([scheme, 1e3 * without.median, 1e3 * with_fix.median, ratio, iterations])
    times = table(
        ["scheme", "step without (CPU ms)", "step with (CPU ms)", "added / step", "iterations"],
        rows,
    )
    smooth, sudden = (3.0, 8.0), (5.499, 5.501)
    conservation = table(
        [
            "charges",
            "membership",
            "length (ps)",
            "drift (eV/atom/ps)",
            "largest change in 30 fs (eV/atom)",
            "weight of the adatom",
        ],
        [
            ["every step, 1e-7 e", "smooth", *drift(smooth)],
            ["every step, 1e-7 e", "sudden", *drift(sudden)],
            ["every third step, 1e-2 e", "smooth", *published_drift(smooth)],
            ["every third step, 1e-2 e (published)", "sudden", *published_drift(sudden)],
        ],
    )
    return (
        f"Na | 1 M NaPF6 in EC | Na, {n_atoms} atoms, shipped model, one rank, 0.5 fs, charges to 1e-6 e every step; "
        "iterations are the median over the steps of all linear systems of a step together. Wanted: at most 1.0 times "
        f"the step of the model and 8 iterations.\n\n{times}\n\n"
        "33 sodium atoms on springs, 8 V, constant energy, 1 fs, random NEP with equilibrated charges; an "
        "adatom swings through the switch of its membership. Wanted: a drift below 1e-5 eV/atom/ps. "
        "A shorter length than 5 ps says when the cell came apart.\n\n"
        f"{conservation}"
    )
