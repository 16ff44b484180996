"""pair_style qnep/kk on a GPU: atom-steps per second and memory, by size and precision.

Needs a LAMMPS with KOKKOS: QNEP_KOKKOS_LAMMPS (program), QNEP_KOKKOS_PLUGIN (the folder of qnepkkplugin.so) and
QNEP_KOKKOS_OPTIONS (one GPU if not given). QNEP_BENCH_SIZES sets the numbers of atoms, by default 1,000,
27,000, 250,000 and 1,000,000. Without these variables nothing is measured, and the section says so.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from bench_lammps import SODIUM_SHAPE, Case, loop_time, sodium_case
from harness import table

from qnep import random_model

SIZES = "1000 27000 250000 1000000"
ONE_GPU = "-k on g 1 -sf kk -pk kokkos newton on neigh half"
N_STEPS = 20


def run(case: Case, style: str, n_steps: int) -> str:
    """What LAMMPS printed; the first steps, in which memory is reserved, are not in the last run."""
    options = shlex.split(os.environ.get("QNEP_KOKKOS_OPTIONS", ONE_GPU))
    (case.folder / "in.bench").write_text(
        "units metal\natom_style charge\nread_data system.data\n"
        f"pair_style {style} timing yes\npair_coeff * * nep.txt Na C O H\n"
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
    )
    if done.returncode != 0:
        raise RuntimeError(f"{case.name}: {done.stdout[-2000:]}")
    return done.stdout


def kspace_share(screen: str) -> float:
    """Percent of the pair style's time, from its own table."""
    found = re.findall(r"^K-space .*\|\s*([\d.]+)$", screen, re.MULTILINE)
    return float(found[-1]) if found else 0.0


def describe_device() -> str:
    """Name and driver of the GPU, where its tool is installed."""
    if shutil.which("nvidia-smi") is None:
        return "no nvidia-smi"
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()


def measure() -> str:
    """Rates of qNEP and plain NEP of the published sodium shape in both precisions."""
    if not os.environ.get("QNEP_KOKKOS_LAMMPS"):
        return "Not measured: no LAMMPS with KOKKOS was given (`QNEP_KOKKOS_LAMMPS`). No figure is guessed."
    rows = []
    for size in os.environ.get("QNEP_BENCH_SIZES", SIZES).split():
        case = sodium_case(int(size))
        for charge_mode, name in ((2, "qNEP"), (0, "NEP")):
            model = random_model("Na C O H", charge_mode=charge_mode, seed=2, **SODIUM_SHAPE)
            model.write(str(Path(case.folder) / "nep.txt"))
            for precision in ("double", "mixed"):
                screen = run(case, f"qnep precision {precision}", N_STEPS)
                rate = N_STEPS * len(case.atoms) / loop_time(screen)
                rows.append((name, precision, len(case.atoms), rate, kspace_share(screen)))
    head = ("model", "precision", "atoms", "atom-steps per second", "k-space, % of the style")
    options = os.environ.get("QNEP_KOKKOS_OPTIONS", ONE_GPU)
    return f"`{options}`; {describe_device()}\n\n" + table(head, rows)


if __name__ == "__main__":
    print(measure())
