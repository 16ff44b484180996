"""The command `qnep report`."""

from __future__ import annotations

import argparse
from pathlib import Path

from qnep.analysis.command import add_analysis_options, analyse, settings_of, write_results
from qnep.analysis.figures import check_formats, write_figures
from qnep.analysis.findings import Findings
from qnep.report.page import build_page
from qnep.report.run_folder import RunFolder


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `qnep report`."""
    parser = subparsers.add_parser(
        "report",
        help="one HTML page about a run",
        description="Make one HTML page, which needs no network, of a run's folder: settings, model, history, and what "
        "`qnep analyse` found. Where the folder has a trajectory but no findings, it is analysed first.",
    )
    parser.add_argument(
        "run_folder", type=Path, metavar="RUN", help="folder of a run or an analysis"
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="page to write (default: RUN/report.html)"
    )
    parser.add_argument("--figures", metavar="FORMATS", help="write figures too: png,pdf,svg")
    parser.add_argument("--trajectory", type=Path, help="to analyse, where RUN has several")
    add_analysis_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Build the page and say where it is."""
    folder = RunFolder(options.run_folder)
    if options.figures:
        check_formats(options.figures.split(","))  # before hours of reading
    findings = folder.history()
    findings.extend(_findings(folder, options))
    output = options.output or options.run_folder / "report.html"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(build_page(folder.facts(), findings), encoding="utf-8")
    if options.figures:
        write_figures(findings, output.parent / "figures", options.figures.split(","))
    print(f"report: {output}")


def _findings(folder: RunFolder, options: argparse.Namespace) -> Findings:
    """Return what was found in the run, analysing it now if that was not done."""
    files = folder.findings_files()
    if options.trajectory is None and files:
        whole = Findings()
        for path in files:
            whole.extend(Findings.read(path))
        return whole
    trajectory = options.trajectory or _only_trajectory(folder)
    if trajectory is None:
        return Findings(notes=["There is no trajectory in this folder, so nothing was analysed."])
    options.trajectory = trajectory
    output = trajectory.with_name(trajectory.name + ".analysis")
    findings, pipeline = analyse(options, settings_of(options), output)
    write_results(findings, pipeline, output, "none")
    return findings


def _only_trajectory(folder: RunFolder) -> Path | None:
    """Return the trajectory of a folder.

    Raises
    ------
    ValueError : where there are several.
    """
    found = folder.trajectories()
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(
            f"{folder.path} has several trajectories, choose with --trajectory: {names}"
        )
    return found[0] if found else None
