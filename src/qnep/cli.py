"""The command `qnep`: finds the module of a subcommand and turns errors into one sentence."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import select
import sys
from collections.abc import Sequence
from pathlib import Path

import qnep
from qnep._optional import MissingExtra

COMMANDS = {
    "info": ("qnep.info", "what a model file holds: kind, elements, cutoffs, counts, memory"),
    "eval": (
        "qnep.evaluate",
        "energies, forces, stress, charges of structures; errors against references",
    ),
    "build": ("qnep.build.command", "build slabs, electrolytes, interfaces, product fragments"),
    "label": ("qnep.dft.command", "label structures with a DFT code"),
    "train": ("qnep.train.command", "fit a model to labelled structures"),
    "learn": ("qnep.learn.command", "active learning: sample, screen, label, train, repeat"),
    "md": ("qnep.lammps.command", "molecular dynamics in LAMMPS"),
    "deposit": ("qnep.deposit.command", "PLUMED-driven deposition through an interface"),
    "barrier": ("qnep.deposit.barrier_command", "free-energy profile along a collective variable"),
    "electrode": ("qnep.electrode.command", "electrodes at constant potential"),
    "analyse": (
        "qnep.analysis.command",
        "species, reactions, solvation, layers, crystals of a trajectory",
    ),
    "map": (
        "qnep.analysis.map_command",
        "map of a data set by its descriptors: train, test, outliers",
    ),
    "wulff": ("qnep.analysis.wulff_command", "surface energies and the Wulff shape"),
    "report": ("qnep.report.command", "one HTML page about a run"),
    "doctor": (
        "qnep.doctor",
        "versions, threads, instruction sets, which optional parts are present",
    ),
}
"""Subcommand -> (module, summary). `module.register(subparsers)` adds the parser of its subcommand and sets its default
`run`: a function of the parsed arguments that returns None or an exit status."""

USER_ERRORS = (ValueError, OSError, MissingExtra)

READER_GONE = 141  # 128 + SIGPIPE, as a shell reports it


def _is_available(module: str) -> bool:
    """Whether this installation has the module; found out without importing anything."""
    return (Path(__file__).parents[1] / Path(*module.split("."))).with_suffix(".py").exists()


def _parser(wanted: str | None) -> argparse.ArgumentParser:
    """The parser with all options of the subcommand `wanted` and only the names of the others."""
    parser = argparse.ArgumentParser(
        prog="qnep",
        description="Charge-aware neuroevolution potentials: build, label, train, run, analyse.",
    )
    parser.add_argument("--version", action="version", version=f"qnep {qnep.__version__}")
    parser.add_argument(
        "--traceback", action="store_true", help="show where in the code an error arose"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is being done")
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, (module, summary) in COMMANDS.items():
        if name == wanted:
            importlib.import_module(module).register(subparsers)
        elif _is_available(module):
            subparsers.add_parser(name, help=summary, add_help=False)
    return parser


def _find_command(arguments: Sequence[str]) -> str | None:
    """The first word that is not an option, if it is a subcommand that this installation has."""
    word = next((word for word in arguments if not word.startswith("-")), None)
    return word if word in COMMANDS and _is_available(COMMANDS[word][0]) else None


def _is_reader_gone() -> bool:
    """Whether nobody reads standard output any more, as in `qnep info nep.txt | head -1`; if so, it goes nowhere now.

    Only the pipe itself tells it from a broken pipe to a child: what could not be written may be gone from the buffer.
    """
    poll = select.poll()
    try:
        poll.register(sys.stdout, 0)
    except (OSError, ValueError):  # not a file of the system
        return False
    gone = any(event & select.POLLERR for _, event in poll.poll(0))
    if gone:  # else the interpreter tries to write the rest at its end, and complains
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns the exit status: 0, 2 for wrong input, 130 when interrupted, 141 when nobody reads the output any more.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    show_traceback = "--traceback" in arguments
    try:
        options = _parser(_find_command(arguments)).parse_args(arguments)
        logging.basicConfig(
            level=logging.INFO if options.verbose else logging.WARNING,
            format="%(levelname)s: %(message)s",
        )
        status = options.run(options) or 0
        sys.stdout.flush()
        return status
    except USER_ERRORS as failure:
        if isinstance(failure, BrokenPipeError) and _is_reader_gone():
            return READER_GONE
        if show_traceback:
            raise
        print(f"qnep: error: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("qnep: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
