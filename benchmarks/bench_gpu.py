"""pair_style qnep/kk on a GPU: atom-steps per second, memory and stages, by model, size and precision.

Needs a LAMMPS with KOKKOS: QNEP_KOKKOS_LAMMPS (program), QNEP_KOKKOS_PLUGIN (the folder of qnepkkplugin.so) and
QNEP_KOKKOS_OPTIONS (one GPU if not given). QNEP_BENCH_SIZES sets the numbers of atoms, by default 1,000,
27,000, 250,000 and 1,000,000. Without these variables nothing is measured, and the section says so.

Operations are counted, not measured: multiplications and additions that no implementation of the formulas avoids, for
the mean numbers of neighbours within the cutoffs. Over the time of a step they tell how far the card is from its
ceiling.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from ase.io import read
from bench_lammps import SHARED, SODIUM_SHAPE, Case, loop_time, sodium_case
from harness import table

from qnep import random_model
from qnep.model import Model

SIZES = "1000 27000 250000 1000000"
ONE_GPU = "-k on g 1 -sf kk -pk kokkos newton on neigh half"
N_STEPS = 20
TIME_LIMIT = 240  # s, of one run of LAMMPS
LARGEST_BLOCK = 40_000  # atoms of a data file, which ASE writes in two seconds; LAMMPS repeats it
HEAD = (
    *("model", "precision", "atoms", "atom-steps/s", "steps/s", "device memory, bytes/atom"),
    "Tflop/s, counted",
)

STAGES = ("Neighbor blocks", "Descriptors", "Charges", "K-space", "Forces", "Comm")


class MemoryWatch:
    """Most memory in use on the GPU while it watches, bytes; 0 without nvidia-smi."""

    def __enter__(self) -> MemoryWatch:
        self.most = self.before = memory_in_use()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            self.most = max(self.most, memory_in_use())

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def memory_in_use() -> int:
    """Of the first GPU, bytes."""
    if shutil.which("nvidia-smi") is None:
        return 0
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    words = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    return int(words[0]) * 2**20 if words else 0


@dataclass
class Crystal:
    """A case that LAMMPS repeats along each axis."""

    name: str
    case: Case
    repeats: int

    @property
    def n_atoms(self) -> int:
        return len(self.case.atoms) * self.repeats**3


def run(crystal: Crystal, style: str, n_steps: int) -> str:
    """What LAMMPS printed; the first steps, in which memory is reserved, are not in the last run."""
    case = crystal.case
    options = shlex.split(os.environ.get("QNEP_KOKKOS_OPTIONS", ONE_GPU))
    (case.folder / "in.bench").write_text(
        "units metal\natom_style charge\nread_data system.data\n"
        f"replicate {crystal.repeats} {crystal.repeats} {crystal.repeats}\n"
        f"pair_style {style} timing yes\npair_coeff * * {case.model} {case.elements}\n"
        "neighbor 1.0 bin\nneigh_modify every 1 delay 0 check yes\n"
        f"timestep 1e-6\nfix move all nve\nthermo {n_steps}\nrun 3\nrun {n_steps}\n"
    )
    done = subprocess.run(
        [os.environ["QNEP_KOKKOS_LAMMPS"], *options, "-in", "in.bench", "-log", "none"],
        cwd=case.folder,
        env={**os.environ, "LAMMPS_PLUGIN_PATH": os.environ["QNEP_KOKKOS_PLUGIN"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIME_LIMIT,
    )
    if done.returncode != 0:
        raise RuntimeError(f"status {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def shares(screen: str) -> str:
    """Percent of the pair style's time in each stage, in the order of STAGES, from its own table of the last run."""
    columns = r" +\|[^|]*\|[^|]*\|[^|]*\| *([\d.]+)$"
    percents = []
    for stage in STAGES:
        found = re.findall(rf"^{stage}{columns}", screen, re.MULTILINE)
        percents.append(f"{float(found[-1]):.0f}" if found else "0")
    return " / ".join(percents)


def operations_per_atom(model: Model, density: float) -> float:
    """Of one step without the mesh, neighbour list and elementary functions; density: atoms/Å³."""
    n_radial, n_angular = (
        density * 4.0 / 3.0 * math.pi * max(cutoffs) ** 3
        for cutoffs in (model.radial_cutoffs, model.angular_cutoffs)
    )
    radial = (model.n_max_radial + 1) * (model.basis_size_radial + 1)
    functions = model.n_max_angular + 1
    angular = functions * (model.basis_size_angular + 1)
    harmonics = functions * ((model.l_max + 1) ** 2 - 1)
    outputs = 2 if model.charge_mode else 1
    # Values in the first pass; in the second slopes, and of the angular functions values once more.
    pairs = n_radial * 2 * radial + n_angular * (3 * angular + 3 * harmonics)
    network = model.n_neurons * model.n_descriptors * (1 + outputs)
    return 2.0 * (pairs + network)


def block_and_repeats(n_atoms: int) -> tuple[int, int]:
    """Atoms of a block that can be written quickly, and how often it is repeated along each axis to have so many."""
    fewest = max(1, math.ceil((n_atoms / LARGEST_BLOCK) ** (1 / 3) - 1e-9))
    for repeats in range(fewest, 2 * fewest + 1):
        if n_atoms % repeats**3 == 0:
            return n_atoms // repeats**3, repeats
    return round(n_atoms / fewest**3), fewest


def telluride_crystal(n_atoms: int) -> Crystal | None:
    """Lead telluride by GPUMD's example of a model with charges, where the reference data are."""
    model = SHARED / "qnep_train" / "nep.txt"
    if not model.exists():
        return None
    frame = read(SHARED / "gpumd_static_qnep" / "model.xyz")
    repeats = max(1, round((n_atoms / len(frame)) ** (1 / 3)))
    return Crystal("qNEP, PbTe", Case("PbTe", frame, "Te Pb", "", model), repeats)


def crystals(n_atoms: int) -> Iterator[Crystal]:
    """Systems of about that size."""
    block, repeats = block_and_repeats(n_atoms)
    for charge_mode, name in ((2, "qNEP, Na shape"), (0, "NEP, Na shape")):
        case = sodium_case(block)
        assert case.model is not None
        random_model("Na C O H", charge_mode=charge_mode, seed=2, **SODIUM_SHAPE).write(
            str(case.model)
        )
        yield Crystal(name, case, repeats)
    telluride = telluride_crystal(n_atoms)
    if telluride is not None:
        yield telluride


def measure_crystal(crystal: Crystal, precision: str) -> tuple:
    """A row of the table; of one that failed the reason."""
    n_atoms, case = crystal.n_atoms, crystal.case
    try:
        with MemoryWatch() as watch:
            screen = run(crystal, f"qnep precision {precision}", N_STEPS)
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as failure:
        reason = " ".join(str(failure).split())[-300:].replace("|", "/")
        return (crystal.name, precision, n_atoms, *["-"] * (len(HEAD) - 3), f"FAILED: {reason}")
    seconds = loop_time(screen) / N_STEPS
    density = len(case.atoms) / case.atoms.get_volume()
    operations = operations_per_atom(Model.read(str(case.model)), density)
    memory = (watch.most - watch.before) / n_atoms
    return (
        *(crystal.name, precision, n_atoms, n_atoms / seconds, 1.0 / seconds),
        memory if watch.most > watch.before else "not seen",
        *(operations * n_atoms / seconds * 1e-12, shares(screen)),
    )


def describe_device() -> str:
    """Name and driver of the GPU, where its tool is installed."""
    if shutil.which("nvidia-smi") is None:
        return "no nvidia-smi"
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()


def measure() -> str:
    """Rates of qNEP and plain NEP in both precisions; each row is printed when it is known."""
    if not os.environ.get("QNEP_KOKKOS_LAMMPS"):
        return "Not measured: no LAMMPS with KOKKOS was given (`QNEP_KOKKOS_LAMMPS`). No figure is guessed."
    head = (*HEAD, f"% of the style: {' / '.join(STAGES)}")
    rows = []
    for size in os.environ.get("QNEP_BENCH_SIZES", SIZES).split():
        for crystal in crystals(int(size)):
            for precision in ("double", "mixed"):
                rows.append(measure_crystal(crystal, precision))
                print(table(head, rows[-1:]).splitlines()[-1], flush=True)
    options = os.environ.get("QNEP_KOKKOS_OPTIONS", ONE_GPU)
    return f"`{options}`; {describe_device()}\n\n" + table(head, rows)


if __name__ == "__main__":
    print(measure())
