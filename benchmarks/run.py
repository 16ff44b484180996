"""Run benchmarks and write their sections of RESULTS.md: `python benchmarks/run.py [NAME ...]`.

Without names all but those that take hours and a DFT code.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
BY_NAME_ONLY = {"learn_gpaw"}
sys.path.insert(0, str(FOLDER))

from harness import write_section  # noqa: E402 (found through the line above)


def names() -> list[str]:
    """The benchmarks of this folder."""
    return sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


def main() -> None:
    """Run the chosen benchmarks one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}")
    chosen = parser.parse_args().names or [name for name in names() if name not in BY_NAME_ONLY]
    unknown = sorted(set(chosen) - set(names()))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(names())}")
    for name in chosen:
        print(f"--- {name}", flush=True)
        module = importlib.import_module(f"bench_{name}")
        body = module.measure()
        title = module.__doc__.strip().splitlines()[0].rstrip(".")
        write_section(name, title, body, f"python benchmarks/run.py {name}")
        print(body, flush=True)


if __name__ == "__main__":
    main()
