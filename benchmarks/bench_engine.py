"""Engine

Evaluations per second through the ASE calculators, one thread, atoms moved by 0.001 Å before each call as in dynamics,
energies and forces. Peers: calorine's `CPUNEP`, which computes Born charges with every call of a qNEP model, and the
CPU engine of nep-adapters. Cases with PbTe and diamond need reference files: set QNEP_SHARED_DATA to their folder.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from harness import Timing, paired_timings, ratios, table

from qnep import QNEP, Model
from qnep.io import read_frames
from qnep.model import random_model

SHARED_DATA = Path(os.environ.get("QNEP_SHARED_DATA", "../shared/data"))
SODIUM_ELEMENTS = ("C", "F", "H", "Na", "O", "P")
ROUNDS = 9  # of the options; a shared machine spoils some
SODIUM_FRACTIONS = (0.20, 0.06, 0.30, 0.25, 0.17, 0.02)  # of an interface with its electrolyte


@dataclass(frozen=True)
class Case:
    name: str
    model_file: Path
    atoms: Atoms


def sodium_box(n_atoms: int, seed: int = 0) -> Atoms:
    """Atoms of an interface's composition on a disturbed lattice at 0.094 atoms/Å³, that of a dense interface."""
    random = np.random.default_rng(seed)
    n = int(np.ceil(n_atoms ** (1 / 3)))
    spacing = 2.2  # Å
    grid = np.stack(np.meshgrid(*[np.arange(n)] * 3), axis=-1).reshape(-1, 3)
    cell = np.array([n, n, np.ceil(n_atoms / n**2)]) * spacing
    positions = grid[np.argsort(grid[:, 2], kind="stable")][:n_atoms] * spacing
    symbols = random.choice(SODIUM_ELEMENTS, n_atoms, p=SODIUM_FRACTIONS)
    return Atoms(
        symbols, positions + random.normal(scale=0.12, size=(n_atoms, 3)), cell=cell, pbc=True
    )


def sodium_model(charge_mode: int) -> Model:
    """A random model of the published shape (arXiv:2604.07077): 22,633 parameters with one output."""
    return random_model(
        SODIUM_ELEMENTS,
        charge_mode=charge_mode,
        radial_cutoff=6.5,
        angular_cutoff=4.0,
        n_max=(8, 8),
        basis_size=(8, 8),
        l_max=(4, 2, 0),
        n_neurons=50,
    )


def cases(folder: Path) -> list[Case]:
    """The systems that are timed; those whose files are absent are left out."""
    result = []
    model_file = SHARED_DATA / "qnep_train" / "nep.txt"
    if model_file.exists():
        frame = read_frames(SHARED_DATA / "qnep_train" / "train.xyz")[0]
        result.append(Case("(a) PbTe, qNEP, 250 atoms", model_file, frame))
        result.append(Case("(b) PbTe, qNEP, 2,000 atoms", model_file, frame * 2))
    for name, charge_mode in (("(c) Na and electrolyte, qNEP", 2), ("(c') the same, NEP", 0)):
        path = folder / f"sodium{charge_mode}.txt"
        sodium_model(charge_mode).write(str(path))
        result.append(Case(f"{name}, 2,000 atoms", path, sodium_box(2000)))
    model_file = SHARED_DATA / "models" / "C_2024_NEP4.txt"
    if model_file.exists():
        diamond = bulk("C", "diamond", cubic=True) * 8
        diamond.rattle(0.05, seed=1)
        result.append(Case("(d) diamond, NEP, 4,096 atoms", model_file, diamond))
    return result


def moving(atoms: Atoms, calculator, born: bool = False) -> Callable[[], object]:
    """A call that moves the atoms a little and evaluates them.

    The moves are drawn beforehand: random numbers for 2,000 atoms take 60 µs, as long as all of ASE's work.
    """
    atoms = atoms.copy()
    atoms.calc = calculator
    random = np.random.default_rng(1)
    moved = itertools.cycle(
        [atoms.positions + random.normal(scale=0.001, size=(len(atoms), 3)) for _ in range(8)]
    )

    def evaluate() -> object:
        atoms.positions[:] = next(moved)
        if born:
            atoms.calc.calculate(atoms, ["energy", "forces", "born_effective_charges"])
            return atoms.calc.results["forces"]
        return atoms.get_forces()

    return evaluate


def peers(case: Case) -> dict[str, Callable[[], object]]:
    from calorine.calculators import CPUNEP

    result = {"calorine": moving(case.atoms, CPUNEP(str(case.model_file)))}
    if Model.read(str(case.model_file)).charge_mode == 0:
        try:
            from nep_adapters.ase import NepAseCalculator
        except ImportError:
            return result
        result["nep-adapters"] = moving(case.atoms, NepAseCalculator(str(case.model_file)))
    return result


def flop_per_atom(model: Model, n_radial: float, n_angular: float) -> float:
    """Multiplications and additions of both passes, from the sizes alone; see docs/architecture.md."""
    k_r, k_a = model.basis_size_radial + 1, model.basis_size_angular + 1
    n_r, n_a = model.n_max_radial + 1, model.n_max_angular + 1
    harmonics = (model.l_max + 1) ** 2 - 1
    n_types = len(model.elements)
    radial = n_radial * (3 + 6) * k_r + 4 * n_types * n_r * k_r + 80 * n_radial
    per_neighbor = 4 * n_a * k_a + 5 * k_a + 2 * n_a * harmonics  # g_n and slopes; sums
    per_neighbor += 4 * n_a * harmonics + 12 * harmonics + 80  # backwards; harmonics and gradient
    network = 2 * model.n_descriptors * model.n_neurons * (1 + model.n_outputs)
    return radial + n_angular * per_neighbor + network


def neighbors_per_atom(atoms: Atoms, cutoff: float) -> float:
    from vesin import NeighborList

    (first,) = NeighborList(cutoff=cutoff, full_list=True).compute(
        atoms.positions, atoms.cell.array, True, "i"
    )
    return len(first) / len(atoms)


def matrix_product_rate() -> float:
    """FLOP/s of numpy's matrix product on one thread: what this processor can do in practice."""
    n = 1000
    a = np.random.default_rng(0).normal(size=(n, n))
    timing = paired_timings({"product": lambda: a @ a})["product"]
    return 2.0 * n**3 / timing.median


def compare_with_peers(case: Case, peak: float) -> list[object]:
    calculator = QNEP(case.model_file)
    timings = paired_timings({"qnep": moving(case.atoms, calculator), **peers(case)})
    n_atoms, model = len(case.atoms), calculator.model
    rate = n_atoms / timings["qnep"].median
    flop = flop_per_atom(
        model,
        neighbors_per_atom(case.atoms, max(model.radial_cutoffs)),
        neighbors_per_atom(case.atoms, max(model.angular_cutoffs)),
    )
    adapters = timings.get("nep-adapters")
    return [
        case.name,
        microseconds(timings["qnep"], n_atoms),
        microseconds(timings["calorine"], n_atoms),
        round(ratios(timings["calorine"], timings["qnep"]), 1),
        round(ratios(adapters, timings["qnep"]), 1) if adapters else "refused",
        f"{flop * rate / peak:.0%}",
    ]


def microseconds(timing: Timing, n_atoms: int) -> str:
    return f"{1e6 * timing.median / n_atoms:.2f}"


def repeated(function: Callable[[], object], n_calls: int) -> Callable[[], object]:
    def turn() -> None:
        for _ in range(n_calls):
            function()

    return turn


@contextmanager
def two_processes(case: Case, n_calls: int) -> Iterator[Callable[[], object]]:
    """`n_calls` evaluations in this process and as many in another one at the same time.

    What two processors of this machine can do at this moment: nothing is shared, nobody waits before the end. Threads
    of one evaluation cannot be faster.
    """
    here, there = multiprocessing.Pipe()

    def evaluate_on_demand() -> None:
        turn = repeated(moving(case.atoms, QNEP(case.model_file)), n_calls)
        while there.recv():
            turn()
            there.send(True)

    process = multiprocessing.get_context("fork").Process(target=evaluate_on_demand, daemon=True)
    process.start()
    there.close()  # so that the death of the other process is noticed
    own_turn = repeated(moving(case.atoms, QNEP(case.model_file)), n_calls)

    def both() -> None:
        here.send(True)
        own_turn()
        here.recv()

    try:
        yield both
    finally:
        here.send(False)
        process.join()


def compare_options(case: Case) -> list[object]:
    """Single precision, two threads and Born charges against one thread in double precision."""
    settings = {"single": {"precision": "single"}, "two": {"n_threads": 2}}
    contestants = {"double": moving(case.atoms, QNEP(case.model_file))}
    contestants |= {
        name: moving(case.atoms, QNEP(case.model_file, **options))
        for name, options in settings.items()
    }
    has_charges = Model.read(str(case.model_file)).charge_mode > 0
    if has_charges:
        contestants["born"] = moving(case.atoms, QNEP(case.model_file), born=True)
    # Turns of many steps, as in dynamics.
    contestants["double"]()  # makes the neighbour list
    start = time.perf_counter()
    contestants["double"]()
    n_calls = max(3, round(0.2 / (time.perf_counter() - start)))
    turns = {name: repeated(function, n_calls) for name, function in contestants.items()}
    with two_processes(case, n_calls) as turns["processes"]:
        timings = paired_timings(turns, rounds=ROUNDS, warm_up=3)
    processes = Timing(tuple(0.5 * seconds for seconds in timings["processes"].seconds))
    exact, single = (
        QNEP(case.model_file, precision=precision) for precision in ("double", "single")
    )
    for calculator in (exact, single):
        calculator.calculate(case.atoms, ["energy", "forces"])
    error = np.abs(exact.results["forces"] - single.results["forces"]).max()
    energy_error = abs(exact.results["energy"] - single.results["energy"]) / len(case.atoms)
    return [
        case.name,
        round(ratios(timings["double"], timings["single"]), 2),
        f"{energy_error:.0e} eV/atom, {error:.0e} eV/Å",
        round(ratios(timings["double"], timings["two"]), 2),
        round(ratios(timings["double"], processes), 2),
        round(ratios(timings["born"], timings["double"]), 2) if has_charges else "",
    ]


def growth(folder: Path) -> list[list[object]]:
    """Time per atom of large systems over that of small ones."""
    rows = []
    for name, charge_mode in (("NEP", 0), ("qNEP, particle mesh", 2)):
        path = folder / f"sodium{charge_mode}.txt"
        sizes = (4_000, 100_000)
        timings = paired_timings(
            {
                str(n): moving(sodium_box(n), QNEP(path, kspace="pppm" if charge_mode else "auto"))
                for n in sizes
            },
            rounds=3,
        )
        small, large = (timings[str(n)] for n in sizes)
        factor = ratios(large, small) * sizes[0] / sizes[1]
        rows.append([name, microseconds(small, sizes[0]), microseconds(large, sizes[1]), factor])
    return rows


def memory_of_a_million() -> str:
    """Peak memory of a process that evaluates one frame of 1,000,000 atoms with a plain NEP."""
    command = [sys.executable, __file__, "--million"]
    output = subprocess.run(command, check=True, capture_output=True, text=True)
    return output.stdout.strip()


def evaluate_a_million() -> str:
    atoms = bulk("Si", cubic=True) * 50
    model = random_model("Si", radial_cutoff=5.0, angular_cutoff=5.0, n_max=(10, 10))
    atoms.calc = QNEP(model)
    atoms.get_forces()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return f"{len(atoms):,} atoms of silicon, plain NEP with cutoffs of 5 Å: {peak:.2f} GB at most"


def measure(folder: Path | None = None) -> str:
    """Return the Markdown of this section."""
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return measure(Path(temporary))
    systems = cases(folder)
    options = [
        compare_options(case) for case in systems
    ]  # before libraries with threads of their own are loaded
    peak = matrix_product_rate()
    return "\n\n".join(
        [
            f"Instruction set {QNEP(systems[0].model_file)._members[0]._evaluator.simd}. "
            f"Matrix product on one thread: {peak / 1e9:.1f} GFLOP/s; the last column is the share of it that the "
            "evaluation reaches, counting only what the formulas need.",
            table(
                ["system", "µs/atom", "calorine", "times calorine", "times nep-adapters", "share"],
                [compare_with_peers(case, peak) for case in systems],
            ),
            "Options against one thread in double precision without Born charges (speed-up, for Born charges cost). "
            "Two processes evaluate the same atoms independently at the same time: as much as the two processors could "
            "give in these moments, an upper bound for two threads.",
            table(
                [
                    "system",
                    "single",
                    "largest error of single",
                    "two threads",
                    "two processes",
                    "with Born charges",
                ],
                options,
            ),
            "Growth, Na and electrolyte, µs per atom:",
            table(["model", "4,000 atoms", "100,000 atoms", "factor"], growth(folder)),
            "Memory: " + memory_of_a_million() + ".",
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--million", action="store_true", help="only the memory of 1,000,000 atoms")
    print(evaluate_a_million() if parser.parse_args().million else measure())
