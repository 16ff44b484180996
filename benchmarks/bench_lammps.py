"""pair_style qnep in LAMMPS: speed, ranks, size, accuracy of the mesh, conservation.

Speeds are from the loop time that LAMMPS reports for steps with neighbour list, charges, mesh and forces of every
step; contestants take turns.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.io import read
from ase.io.lammpsdata import write_lammps_data
from harness import paired_timings, table

from qnep import random_model
from qnep.lammps.mpi import lammps_program, mpi_launcher

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SODIUM_SHAPE = {
    "radial_cutoff": 6.5,
    "angular_cutoff": 4.0,
    "n_max": (8, 8),
    "basis_size": (8, 8),
    "l_max": (4, 1),
    "n_neurons": 50,
}
"""The settings of the published sodium model (arXiv:2604.07077)."""
ROUNDS = 3


@dataclass
class Case:
    """A structure with a potential, ready to run in a folder of its own."""

    name: str
    atoms: Atoms
    elements: str
    potential: str  # pair_style and what follows it
    model: Path | None = None
    units: str = "metal"
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="qnep-bench-")))

    def __post_init__(self) -> None:
        write_lammps_data(
            self.folder / "system.data",
            self.atoms,
            specorder=self.elements.split(),
            masses=True,
            atom_style="charge",
            units="metal",  # the same lengths, masses and charges as real
        )

    def run(self, n_steps: int, n_ranks: int = 1, more: str = "") -> str:
        """Run without motion of note and return what LAMMPS printed."""
        (self.folder / "in.bench").write_text(
            f"units {self.units}\natom_style charge\nread_data system.data\n"
            f"{self.potential}\nneighbor 1.0 bin\nneigh_modify every 1 delay 0 check yes\n"
            f"timestep 1e-6\nfix move all nve\nthermo {n_steps}\n{more}\nrun {n_steps}\n"
        )
        command = [lammps_program(), "-in", "in.bench", "-log", "none"]
        if n_ranks > 1:
            command = [mpi_launcher(), "-n", str(n_ranks), *command]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {done.stdout[-2000:]}")
        return done.stdout

    def rate(self, n_steps: int, n_ranks: int = 1) -> float:
        """Atom-steps per second."""
        return n_steps * len(self.atoms) / loop_time(self.run(n_steps, n_ranks))


def loop_time(screen: str) -> float:
    """Seconds of the last run."""
    return float(re.findall(r"^Loop time of ([\d.e+-]+)", screen, re.MULTILINE)[-1])


def sodium_case(n_atoms: int) -> Case:
    """Sodium, carbon, oxygen and hydrogen at random on a jittered lattice at 0.08 atoms/Å³, as in dense interfaces."""
    random = np.random.default_rng(1)
    side = round(n_atoms ** (1 / 3))
    while side**3 < n_atoms:
        side += 1
    spacing = 0.08 ** (-1 / 3)
    points = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[
        :n_atoms
    ]
    positions = spacing * (points + 0.5 + random.uniform(-0.15, 0.15, size=points.shape))
    layers = -(-n_atoms // side**2)
    atoms = Atoms(
        random.choice(["Na", "C", "O", "H"], size=n_atoms),
        positions=positions,
        cell=spacing * np.array([layers, side, side]),
        pbc=True,
    )
    case = Case(f"Na shape, {n_atoms:,} atoms", atoms, "Na C O H", "")
    case.model = case.folder / "nep.txt"
    random_model("Na C O H", charge_mode=2, seed=2, **SODIUM_SHAPE).write(str(case.model))
    case.potential = "pair_style qnep timing yes\npair_coeff * * nep.txt Na C O H"
    return case


def telluride_case() -> Case:
    atoms = read(SHARED / "gpumd_static_qnep" / "model.xyz").repeat((4, 2, 2))
    model = SHARED / "qnep_train" / "nep.txt"
    potential = f"pair_style qnep timing yes\npair_coeff * * {model} Te Pb"
    return Case(f"PbTe qNEP, {len(atoms):,} atoms", atoms, "Te Pb", potential, model)


def diamond_case() -> Case:
    atoms = bulk("C", "diamond", a=3.57, cubic=True).repeat(8)
    atoms.rattle(0.05, seed=1)
    model = SHARED / "models" / "C_2024_NEP4.txt"
    potential = f"pair_style qnep timing yes\npair_coeff * * {model} C"
    return Case(f"diamond C_2024_NEP4, {len(atoms):,} atoms", atoms, "C", potential, model)


def reaxff_cases(n_atoms: int) -> tuple[Case, Case]:
    """A liquid of C, H and O by ReaxFF with charge equilibration, and by a qNEP model of the sodium shape."""
    import lammps
    from qnep.build import make_electrolyte

    field = Path(lammps.__file__).parent / "share" / "lammps" / "potentials" / "ffield.reax.cho"
    atoms = make_electrolyte({"EC": 1.0}, n_atoms=1000, seed=1)
    repeats = max(1, round(n_atoms / len(atoms)))
    across = 2 if repeats % 4 == 0 else 1  # no needle of a box
    atoms = atoms.repeat((repeats // across**2, across, across))
    reaxff = Case(
        f"ReaxFF, {len(atoms):,} atoms",
        atoms,
        "C H O",
        f"pair_style reaxff NULL\npair_coeff * * {field} C H O\n"
        "fix charges all qeq/reaxff 1 0.0 10.0 1e-6 reaxff",
        units="real",
    )
    qnep = Case(f"qNEP, {len(atoms):,} atoms", atoms, "C H O", "")
    random_model("C H O", charge_mode=2, seed=2, **SODIUM_SHAPE).write(str(qnep.folder / "nep.txt"))
    qnep.potential = "pair_style qnep\npair_coeff * * nep.txt C H O"
    return reaxff, qnep


def calorine_evaluation(case: Case) -> Callable[[], object]:
    """One evaluation of the frame by calorine's calculator."""
    from calorine.calculators import CPUNEP

    atoms = case.atoms.copy()
    atoms.calc = CPUNEP(str(case.model))

    def evaluate() -> None:
        atoms.positions += 1e-9  # so that nothing is remembered
        atoms.get_forces()

    return evaluate


def against_calorine() -> str:
    rows = []
    for case, n_steps in ((telluride_case(), 10), (diamond_case(), 10), (sodium_case(4000), 10)):
        seconds = []

        def steps(
            case: Case = case, n_steps: int = n_steps, seconds: list[float] = seconds
        ) -> None:
            seconds.append(loop_time(case.run(n_steps)) / n_steps)

        timings = paired_timings(
            {"qnep": steps, "calorine": calorine_evaluation(case)}, rounds=ROUNDS
        )
        ours = float(np.median(seconds))
        theirs = timings["calorine"].median
        rows.append((case.name, len(case.atoms) / ours, len(case.atoms) / theirs, theirs / ours))
    head = ("system", "LAMMPS, 1 rank (atom-steps/s)", "calorine (atom-steps/s)", "ratio")
    return "### One rank against calorine's calculator\n\n" + table(head, rows)


def against_reaxff() -> str:
    reaxff, qnep = reaxff_cases(4000)
    rates: dict[str, list[float]] = {"ReaxFF": [], "qNEP": []}
    paired_timings(
        {
            "ReaxFF": lambda: rates["ReaxFF"].append(reaxff.rate(5)),
            "qNEP": lambda: rates["qNEP"].append(qnep.rate(5)),
        },
        rounds=ROUNDS,
    )
    slow, fast = (float(np.median(rates[name])) for name in ("ReaxFF", "qNEP"))
    rows = [(reaxff.name, slow, 1.0), (qnep.name, fast, fast / slow)]
    return "### The same liquid with ReaxFF and charge equilibration (1e-6)\n\n" + table(
        ("method", "atom-steps/s, 1 rank", "ratio"), rows
    )


def ranks_and_size() -> str:
    case = sodium_case(32_000)
    rates: dict[int, list[float]] = {1: [], 2: []}
    paired_timings(
        {str(n): lambda n=n: rates[n].append(case.rate(20, n)) for n in rates}, rounds=ROUNDS
    )
    one, two = (float(np.median(rates[n])) for n in (1, 2))
    large = sodium_case(500_000)
    screen = large.run(2)
    at_large = 2 * len(large.atoms) / loop_time(screen)
    memory = float(re.findall(r"([\d.]+) Mbytes", screen)[-1])
    rows = [
        ("32,000 atoms, 1 rank", one, 1.0),
        ("32,000 atoms, 2 ranks", two, two / one),
        ("500,000 atoms, 1 rank", at_large, at_large / one),
    ]
    text = table(("Na shape", "atom-steps/s", "of one rank at 32,000"), rows)
    return (
        "### Ranks and size\n\n"
        + text
        + f"\n\nMemory that LAMMPS counts at 500,000 atoms: {1e6 * memory / len(large.atoms):.0f} bytes an atom.\n\n"
        + "Where the time goes at 32,000 atoms on one rank:\n\n"
        + stages(case.run(5))
    )


def stages(screen: str) -> str:
    names = "Neighbor blocks|Descriptors|Charges|K-space|Forces|Comm"
    columns = r" +\|[^|]*\|[^|]*\|[^|]*\| *([\d.]+)$"  # LAMMPS's own table has one more
    rows = re.findall(rf"^({names}){columns}", screen, re.MULTILINE)
    return table(
        ("stage", "% of the pair style"), [(name, float(percent)) for name, percent in rows]
    )


def mesh_accuracy() -> str:
    """Forces of the frame of lead telluride by mesh against the model's own sum."""
    atoms = read(SHARED / "gpumd_static_qnep" / "model.xyz")
    model = SHARED / "qnep_train" / "nep.txt"
    results = {}
    for method in ("direct", "ewald 1e-12", "pppm 1e-4", "pppm 1e-5", "pppm 1e-6", "pppm 1e-8"):
        case = Case(
            method, atoms, "Te Pb", f"pair_style qnep kspace {method}\npair_coeff * * {model} Te Pb"
        )
        screen = case.run(
            0, more="dump d all custom 1 d id fx fy fz\ndump_modify d sort id format float %.17g"
        )
        lines = (case.folder / "d").read_text().split("ITEM: ATOMS")[1].splitlines()[1:]
        forces = np.array([line.split()[1:] for line in lines], dtype=float)
        grid = re.search(r"grid = (.*)", screen)
        results[method] = (forces, grid[1].replace(" ", " × ") if grid else "")
    rows = []
    for method, (forces, grid) in results.items():
        to_direct, to_ewald = (forces - results[name][0] for name in ("direct", "ewald 1e-12"))
        rows.append(
            (method, grid, float(np.sqrt((to_ewald**2).mean())), float(np.abs(to_direct).max()))
        )
    head = ("kspace", "mesh", "rms to converged Ewald (eV/Å)", "largest to the model's sum (eV/Å)")
    return "### Accuracy of the long range, PbTe with 250 atoms\n\n" + table(head, rows)


def measure() -> str:
    """All parts; calorine's library reads the number of threads at its first call."""
    os.environ["OMP_NUM_THREADS"] = "1"
    parts = [mesh_accuracy(), against_calorine(), against_reaxff(), ranks_and_size()]
    return "\n\n".join(parts)
