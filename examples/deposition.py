"""Sodium deposition through a Na2CO3 SEI from EC, or through a NaF SEI from DME, on graphite: the two published cases.

    python examples/deposition.py na2co3-ec --model nep.txt
    python examples/deposition.py naf-dme --model nep.txt --interval-ps 100 --intervals 100

builds the interface (`--atoms 1300` and `--atoms 2900` are about the smallest), shows its regions, and deposits one
sodium per interval; what follows the options that are named here goes to `qnep deposit`. Published: arXiv:2604.07077,
0.1 ns for each of 100 atoms.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from qnep.cli import main as qnep

CASES = {
    "na2co3-ec": ["--sei", "Na2CO3", "--solvent", "EC"],
    "naf-dme": [
        "--sei",
        "NaF",
        "--sei-facet",
        "100",
        "--max-strain",
        "0.06",
        "--solvent",
        "DME",
    ],
}
ATOMS = {"na2co3-ec": 1900, "naf-dme": 3200}


def main() -> int:
    """Build the case if it is not there yet, then hand over to `qnep deposit`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--atoms", type=int, help="about; default: 1900 and 3200")
    options, rest = parser.parse_known_args()
    structure = Path(f"{options.case}.extxyz")
    if not structure.exists():
        words = [
            "--solid",
            "graphite-basal",
            *CASES[options.case],
            "--salt",
            "NaPF6",
            "--molarity",
            "1",
            "--atoms",
            str(options.atoms or ATOMS[options.case]),
        ]
        status = qnep(["build", "interface", *words, "-o", options.case])
        if status:
            return status
    # The lowest graphite layer stays where it is.
    frozen = "elements=C&between=0:1.0"
    return qnep(
        ["deposit", str(structure), "--folder", f"{options.case}_run", "--frozen", frozen, *rest]
    )


if __name__ == "__main__":
    sys.exit(main())
