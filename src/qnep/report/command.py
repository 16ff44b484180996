"""The command `qnep report`."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from qnep.analysis.command import add_analysis_options, analyse, folder_of, write_results
from qnep.analysis.figures import check_formats, write_figures
from qnep.analysis.findings import FINDINGS_FILE, Findings
from qnep.analysis.options import AnalysisOptions, given_options
from qnep.analysis.origin import Origin
from qnep.files import check_creatable
from qnep.report.page import build_page
from qnep.report.run_folder import RunFolder

logger = logging.getLogger(__name__)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `qnep report`."""
    parser = subparsers.add_parser(
        "report",
        help="one HTML page about a run",
        description="Make one HTML page, which needs no network, of a run's folder: settings, model, history, and what "
        "`qnep analyse` found. Where the folder has a trajectory but no findings, or some that are out of date, it "
        "is analysed first.",
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
    output = options.output or options.run_folder / "report.html"
    check_creatable(output)  # before hours of reading
    if options.figures:
        check_formats(options.figures.split(","))
    findings = folder.history()
    findings.extend(_findings(folder, options.trajectory, given_options(options)))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(build_page(folder.facts(), findings), encoding="utf-8")
    if options.figures:
        write_figures(findings, output.parent / "figures", options.figures.split(","))
    print(f"report: {output}")


def _findings(folder: RunFolder, trajectory: Path | None, given: dict[str, Any]) -> Findings:
    """Return what was found in the run, by an analysis of now where there is none or it is out of date.

    Parameters
    ----------
    trajectory : to look at alone.
    given : options of `AnalysisOptions`.
    """
    found = {path: Findings.read(path) for path in folder.findings_files()}
    origins = {path: Origin.read(one.origin, path.parent) for path, one in found.items()}
    known = {path: origin for path, origin in origins.items() if origin is not None}
    if trajectory is not None:
        wanted = trajectory.resolve()
        known = {path: origin for path, origin in known.items() if origin.trajectory == wanted}
        found = {path: found[path] for path in known}
    whole = Findings()
    if not found or (given and not known):
        trajectory = trajectory or _only_trajectory(folder)
        if trajectory is None:
            whole.notes.append("There is no trajectory in this folder, so nothing was analysed.")
        else:
            output = folder_of(trajectory)
            found.pop(output / FINDINGS_FILE, None)
            whole.extend(_analysed(trajectory, AnalysisOptions(**given), output))
    for path, findings in found.items():
        if path in known:
            whole.extend(_current(findings, path.parent, known[path], given))
            continue
        if "trajectory" in findings.about:
            logger.warning(
                "%s does not say how it was made (by another version of qnep): taken as it is, even if the run went "
                "on since; `qnep analyse` makes it anew",
                path,
            )
        whole.extend(findings)
    return whole


def _current(findings: Findings, folder: Path, origin: Origin, given: dict[str, Any]) -> Findings:
    """Return the findings of a folder as they are, or of an analysis of now where they are out of date.

    Raises
    ------
    ValueError : other options are given, and the trajectory is not there any more.
    """
    changed = origin.changed_options(given)
    if changed and not origin.trajectory.is_file():
        raise ValueError(
            f"{folder} cannot be made anew ({changed}): its trajectory {origin.trajectory} is not there any more; "
            "leave these options out"
        )
    reasons = [reason for reason in (origin.changed_trajectory(), changed) if reason]
    if not reasons:
        return findings
    logger.warning("%s: analysing again, since %s", folder, "; ".join(reasons))
    return _analysed(origin.trajectory, replace(origin.options, **given), folder, origin.figures)


def _analysed(
    trajectory: Path, options: AnalysisOptions, folder: Path, figures: str = "none"
) -> Findings:
    """Analyse a trajectory, write what was found, and return it."""
    findings, pipeline = analyse(trajectory, options, folder)
    write_results(findings, pipeline, folder, figures)
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
