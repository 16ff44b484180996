"""The command `qnep analyse`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from tqdm import tqdm

from qnep.analysis.figures import check_formats, write_figures
from qnep.analysis.findings import FINDINGS_FILE, Findings, files_of_analysis
from qnep.analysis.frame import Frame
from qnep.analysis.options import AnalysisOptions, given_options
from qnep.analysis.origin import Origin, stamp_of
from qnep.analysis.own_runs import timestep_of_run
from qnep.analysis.pipeline import ANALYSES, Checkpoint, Pipeline, fingerprint, run_pipeline
from qnep.analysis.reactions import reaction_network
from qnep.analysis.trajectory import open_trajectory
from qnep.axis_option import AXES, parse_axis
from qnep.files import check_creatable

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
    """Add how to read the trajectory and what to find out; None is the value of what is not given."""
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
    parser.add_argument("--start", type=int, help="first frame")
    parser.add_argument("--stop", type=int, help="frame to stop before")
    parser.add_argument("--stride", type=int, help="take every so-many-th frame")
    parser.add_argument("--only", metavar="NAMES", help=f"of {','.join(ANALYSES)}")
    parser.add_argument("--slow-stride", type=int, help="frames between all but species")
    parser.add_argument(
        "--bond", action="append", metavar="PAIR=FORM:BREAK", help="as C-Br=2.3:2.7, Å"
    )
    parser.add_argument(
        "--lifetime",
        type=float,
        metavar="FS",
        help=f"that a bond change must last (default: {AnalysisOptions.lifetime:g})",
    )
    parser.add_argument("--cation", help="symbol; the alkali metal present")
    parser.add_argument(
        "--normal",
        type=parse_axis,
        metavar="AXIS",
        help=f"axis across the interface, as x or 0 (default: {AXES[AnalysisOptions.normal]})",
    )
    parser.add_argument(
        "--lattice",
        action="append",
        help="crystals to look for, as rocksalt:Na,F or bcc:Na",
    )
    parser.add_argument(
        "--anode", nargs=2, type=float, metavar=("LOW", "HIGH"), help="heights of the anode, Å"
    )


def run(options: argparse.Namespace) -> int:
    """Analyse and write everything; 1 where the trajectory could be read only in part."""
    folder = options.output or folder_of(options.trajectory)
    if options.figures != "none":
        check_formats(options.figures.split(","))  # before hours of reading
    findings, pipeline = analyse(
        options.trajectory, AnalysisOptions(**given_options(options)), folder, options.restart
    )
    write_results(findings, pipeline, folder, options.figures)
    for note in findings.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{pipeline.n_frames} frames analysed: {folder}")
    return int(any(note.startswith("The analysis ends early") for note in findings.notes))


def folder_of(trajectory: Path) -> Path:
    """Return the folder to which the analysis of a trajectory goes where no other is named."""
    return trajectory.with_name(trajectory.name + ".analysis")


def analyse(
    path: Path, options: AnalysisOptions, folder: Path, restart: bool = False
) -> tuple[Findings, Pipeline]:
    """Run the pipeline over a trajectory, from a checkpoint in the folder of its results if there is one.

    Raises
    ------
    ValueError : no such file, options that mean nothing, an unreadable first frame, or a folder that cannot be written
        to, which is found out first.
    """
    settings = options.settings()
    for name, file in (("trajectory", path), ("topology", options.topology)):
        if file is not None and not file.is_file():
            raise ValueError(f"no such {name}: {file}")
    check_creatable(folder / FINDINGS_FILE)
    timestep = options.timestep
    if timestep is None and options.interval is None:
        timestep = timestep_of_run(path)
    origin = Origin(path, stamp_of(path), options)  # before the reading: the run may be going on
    reading = options.reading() | {"timestep": timestep}
    key = fingerprint(path, settings, options.topology, **reading)
    checkpoint = Checkpoint(folder / "checkpoint.pickle", key)
    pipeline = None if restart else checkpoint.load()
    start = options.start
    if pipeline is not None:
        start = pipeline.next_index + options.stride - 1
        logger.warning("going on from frame %d", start)
    pipeline = pipeline or Pipeline(settings)
    trajectory = open_trajectory(
        path, options.topology, options.symbols(), timestep, options.interval,
        start, options.stop, options.stride, pipeline.last, options.units,
    )  # fmt: skip
    with trajectory, tqdm(total=100, unit="%", desc="analyse", bar_format=_BAR) as bar:

        def progress(frame: Frame, fraction: float) -> None:
            bar.set_postfix_str(f"frame {frame.index}", refresh=False)
            bar.update(round(100 * fraction, 1) - bar.n)

        findings = run_pipeline(pipeline, trajectory, checkpoint, progress)
    checkpoint.remove()
    findings.about = {"trajectory": str(path), **findings.about}
    if timestep is not None:
        findings.about["time step"] = f"{timestep:g} fs"
    findings.origin = origin.record(folder)
    return findings, pipeline


_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"


def write_results(findings: Findings, pipeline: Pipeline, folder: Path, formats: str) -> None:
    """Write findings, network and pictures in place of those of an earlier analysis."""
    findings.origin["figures"] = formats
    findings.files = files_of_analysis(folder)  # on the list until all is written, for a kill
    written = findings.write(folder)
    result = pipeline.results().get("species")
    if result is not None and result.reactions:
        import networkx

        written.append(folder / "network.graphml")
        networkx.write_graphml(reaction_network(result), written[-1])
    if formats != "none":
        written += write_figures(findings, folder, formats.split(","))
    findings.drop_files_but(folder, written)
    findings.save(folder)
