"""The command `qnep map`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ase import Atoms
from tqdm import tqdm

from qnep.analysis.descriptor_map import (
    map_descriptors,
    structure_descriptors,
    summarize_map,
    write_chemiscope,
)
from qnep.analysis.figures import check_formats, write_figures


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `qnep map`."""
    parser = subparsers.add_parser(
        "map",
        help="map of a data set by its descriptors",
        description="Principal components of a model's descriptors: train against test, density, outliers.",
    )
    parser.add_argument("train", type=Path, help="training structures, extended XYZ")
    parser.add_argument("--test", type=Path, help="test structures")
    parser.add_argument(
        "--model", type=Path, required=True, help="nep.txt whose descriptors are taken"
    )
    parser.add_argument("--chemiscope", action="store_true", help="write map.chemiscope.json too")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("map"), help="folder (default: %(default)s)"
    )
    parser.add_argument(
        "--figures",
        default="png,pdf",
        metavar="FORMATS",
        help="of png, pdf, svg (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Compute, write, and name the outliers."""
    import qnep

    check_formats(options.figures.split(","))  # before all descriptors are computed
    train = qnep.read_frames(options.train)
    test = qnep.read_frames(options.test) if options.test else []
    calculator = qnep.QNEP(options.model)
    frames: list[Atoms] = [*train, *test]
    descriptors = structure_descriptors(
        tqdm(frames, desc="descriptors"), calculator.get_descriptors
    )
    found = map_descriptors(descriptors[: len(train)], descriptors[len(train) :])
    names = [str(atoms.info.get("config_type", atoms.get_chemical_formula())) for atoms in test]
    findings = summarize_map(found, names)
    findings.write(options.output)
    write_figures(findings, options.output, options.figures.split(","))
    if options.chemiscope:
        write_chemiscope(options.output / "map.chemiscope.json", frames, found, len(train))
    print(
        f"{len(found.outliers)} of {len(test)} test structures are outliers; written to {options.output}"
    )
