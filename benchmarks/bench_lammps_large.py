"""pair_style qnep at 32,000 atoms against calorine and ReaxFF.

One evaluation by calorine takes minutes at this size, because its Ewald sum grows with the square of the atoms.
Therefore processor time is compared, which other work on the machine changes little, and nothing is repeated.
"""

from __future__ import annotations

import os
import re
import time

from bench_lammps import Case, calorine_evaluation, loop_time, reaxff_cases, sodium_case
from harness import table

N_ATOMS = 32_000


def processor_time(screen: str) -> float:
    """Seconds of processor time of the last run of LAMMPS on one rank."""
    share = float(re.findall(r"^([\d.]+)% CPU use", screen, re.MULTILINE)[-1])
    return 0.01 * share * loop_time(screen)


def step_time(case: Case, n_steps: int) -> float:
    return processor_time(case.run(n_steps)) / n_steps


def against_calorine() -> str:
    case = sodium_case(N_ATOMS)
    evaluate = calorine_evaluation(case)
    ours = step_time(case, 10)
    start = time.process_time()
    evaluate()
    theirs = time.process_time() - start
    rows = [
        ("LAMMPS, 1 rank", N_ATOMS / ours, 1.0),
        ("calorine", N_ATOMS / theirs, theirs / ours),
    ]
    head = ("Na shape, 32,000 atoms", "atom-steps per processor second", "times the first")
    return "### Calorine's calculator\n\n" + table(head, rows)


def against_reaxff() -> str:
    reaxff, qnep = reaxff_cases(N_ATOMS)
    slow, fast = step_time(reaxff, 2), step_time(qnep, 5)
    rows = [
        (qnep.name, N_ATOMS / fast, 1.0),
        (reaxff.name, N_ATOMS / slow, slow / fast),
    ]
    head = ("ethylene carbonate", "atom-steps per processor second", "times the first")
    return "### ReaxFF with charge equilibration (1e-6), the same liquid\n\n" + table(head, rows)


def measure() -> str:
    """Both parts; calorine's library reads the number of threads at its first call."""
    os.environ["OMP_NUM_THREADS"] = "1"
    return "\n\n".join([against_calorine(), against_reaxff()])
