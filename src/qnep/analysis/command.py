"""The command `qnep analyse`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from tqdm import tqdm

from qnep.analysis.bond_cutoffs import parse_bond_option
from qnep.analysis.figures import check_formats, write_figures
from qnep.analysis.findings import Findings
from qnep.analysis.frame import Frame
from qnep.analysis.own_runs import timestep_of_run
from qnep.analysis.pipeline import (
    ANALYSES,
    Checkpoint,
    Pipeline,
    PipelineSettings,
    fingerprint,
    run_pipeline,
)
from qnep.analysis.reactions import reaction_network
from qnep.analysis.trajectory import open_trajectory
from qnep.axis_option import parse_axis

logger = logging.getLogger(__name__)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `qnep analyse`."""
    parser = subparsers.add_parser(
        "analyse",
        help="species, reactions, solvation, layers, crystals of a trajectory",
        description="Read a trajectory frame by frame and write what is in it: tables (CSV), pictures (PNG, PDF), "
        "the reaction network (GraphML) and findings.json for `qnep report`. Stopped, it goes on "
        "where it was when called again.",
    )
    parser.add_argument(
        "trajectory", type=Path, help="extxyz, LAMMPS dump (also .gz), GPUMD dump, DCD, XTC"
    )
    add_analysis_options(parser)
    parser.add_argument(
        "-o", "--output", type=Path, help="folder (default: TRAJECTORY's name + .analysis)"
    )
    parser.add_argument(
        "--figures",
        default="png,pdf",
        metavar="FORMATS",
        help="of png, pdf, svg, or none (default: %(default)s)",
    )
    parser.add_argument("--restart", action="store_true", help="do not go on from a checkpoint")
    parser.set_defaults(run=run)


def add_analysis_options(parser: argparse.ArgumentParser) -> None:
    """Add how to read the trajectory and what to find out."""
    parser.add_argument("--topology", type=Path, help="for DCD and XTC: a file with the elements")
    parser.add_argument(
        "--elements", help="of types 1, 2, ..., as Na,C,O,F,H,P, where the file has no symbols"
    )
    parser.add_argument(
        "--timestep",
        type=float,
        metavar="FS",
        help="MD time step, for files that count steps; taken from the settings of a run of qnep md or qnep deposit",
    )
    parser.add_argument("--interval", type=float, metavar="FS", help="time between frames")
    parser.add_argument(
        "--units", help="of LAMMPS, as metal, for velocities in a dump that does not name its own"
    )
    parser.add_argument("--start", type=int, default=0, help="first frame")
    parser.add_argument("--stop", type=int, help="frame to stop before")
    parser.add_argument("--stride", type=int, default=1, help="take every so-many-th frame")
    parser.add_argument("--only", default="", metavar="NAMES", help=f"of {','.join(ANALYSES)}")
    parser.add_argument("--slow-stride", type=int, default=1, help="frames between all but species")
    parser.add_argument(
        "--bond", action="append", default=[], metavar="PAIR=FORM:BREAK", help="as C-Br=2.3:2.7, Å"
    )
    parser.add_argument(
        "--lifetime", type=float, default=PipelineSettings.min_lifetime_fs, metavar="FS",
        help="that a bond change must last (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--cation", help="symbol; the alkali metal present")
    parser.add_argument(
        "--normal",
        type=parse_axis,
        default="z",
        metavar="AXIS",
        help="axis across the interface, as x or 0 (default: %(default)s)",
    )
    parser.add_argument(
        "--lattice",
        action="append",
        default=[],
        help="crystals to look for, as rocksalt:Na,F or bcc:Na",
    )
    parser.add_argument(
        "--anode", nargs=2, type=float, metavar=("LOW", "HIGH"), help="heights of the anode, Å"
    )


def settings_of(options: argparse.Namespace) -> PipelineSettings:
    """Return the settings that options mean."""
    return PipelineSettings(
        only=tuple(filter(None, options.only.split(","))),
        bonds=tuple(parse_bond_option(text) for text in options.bond),
        min_lifetime_fs=options.lifetime,
        cation=options.cation,
        normal=options.normal,
        lattices=tuple(options.lattice),
        anode_range=tuple(options.anode) if options.anode else None,
        stride=options.slow_stride,
    )


def run(options: argparse.Namespace) -> int:
    """Analyse and write everything; 1 where the trajectory could be read only in part."""
    folder = options.output or options.trajectory.with_name(options.trajectory.name + ".analysis")
    settings = settings_of(options)
    if options.figures != "none":
        check_formats(options.figures.split(","))  # before hours of reading
    findings, pipeline = analyse(options, settings, folder)
    write_results(findings, pipeline, folder, options.figures)
    for note in findings.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{pipeline.n_frames} frames analysed: {folder}")
    return int(any(note.startswith("The analysis ends early") for note in findings.notes))


def analyse(
    options: argparse.Namespace, settings: PipelineSettings, folder: Path
) -> tuple[Findings, Pipeline]:
    """Run the pipeline over the trajectory of the options, from a checkpoint if there is one."""
    for name in ("trajectory", "topology"):
        path = getattr(options, name)
        if path is not None and not path.is_file():
            raise ValueError(f"no such {name}: {path}")
    timestep = options.timestep
    if timestep is None and options.interval is None:
        timestep = timestep_of_run(options.trajectory)
    reading = {name: getattr(options, name) for name in _READING} | {"timestep": timestep}
    key = fingerprint(options.trajectory, settings, options.topology, **reading)
    checkpoint = Checkpoint(folder / "checkpoint.pickle", key)
    pipeline = None if getattr(options, "restart", False) else checkpoint.load()
    start = options.start
    if pipeline is not None:
        start = pipeline.next_index + options.stride - 1
        logger.warning("going on from frame %d", start)
    pipeline = pipeline or Pipeline(settings)
    trajectory = open_trajectory(
        options.trajectory, options.topology, _elements(options), timestep, options.interval,
        start, options.stop, options.stride, pipeline.last, options.units,
    )  # fmt: skip
    with trajectory, tqdm(total=100, unit="%", desc="analyse", bar_format=_BAR) as bar:

        def progress(frame: Frame, fraction: float) -> None:
            bar.set_postfix_str(f"frame {frame.index}", refresh=False)
            bar.update(round(100 * fraction, 1) - bar.n)

        findings = run_pipeline(pipeline, trajectory, checkpoint, progress)
    checkpoint.remove()
    findings.about = {"trajectory": str(options.trajectory), **findings.about}
    if timestep is not None:
        findings.about["time step"] = f"{timestep:g} fs"
    return findings, pipeline


_READING = ("timestep", "interval", "units", "elements", "start", "stop", "stride")
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"


def _elements(options: argparse.Namespace) -> list[str] | None:
    return options.elements.split(",") if options.elements else None


def write_results(findings: Findings, pipeline: Pipeline, folder: Path, formats: str) -> None:
    """Write findings, network and pictures."""
    findings.write(folder)
    result = pipeline.results().get("species")
    if result is not None and result.reactions:
        import networkx

        networkx.write_graphml(reaction_network(result), folder / "network.graphml")
    if formats != "none":
        write_figures(findings, folder, formats.split(","))
