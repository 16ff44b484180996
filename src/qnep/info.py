"""The command `qnep info`: what a model file holds."""

from __future__ import annotations

import argparse


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `qnep info`."""
    parser = subparsers.add_parser("info", help="what a model file holds")
    parser.add_argument("model", help="model file, as nep.txt")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the description of a model."""
    from qnep.model import Model, describe

    pairs = describe(Model.read(options.model))
    width = max(len(name) for name, _ in pairs)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in pairs))
