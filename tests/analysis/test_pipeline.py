"""The whole way from a file to findings: what fits is done, stops are survived, errors lose nothing."""

import csv
import json
import logging
import os
import pickle
from pathlib import Path

import networkx
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from scripted import Stage, embed
from test_layers import make_interface
from test_species import make_reactive_stage

from qnep.analysis import Frame, open_trajectory
from qnep.analysis.command import add_analysis_options
from qnep.analysis.findings import Findings, Table, digests_of
from qnep.analysis.options import AnalysisOptions, given_options
from qnep.analysis.pipeline import (
    Checkpoint,
    Pipeline,
    PipelineSettings,
    fingerprint,
    run_pipeline,
)
from qnep.cli import main


def write_stage(path, stage):
    """Write a scripted trajectory as extended XYZ with times."""
    images = []
    for frame in stage.frames():
        images.append(frame.to_ase())
        images[-1].info["Time"] = frame.time_fs
    write(path, images, format="extxyz")
    return path


@pytest.fixture(scope="module")
def reactive(tmp_path_factory):
    return write_stage(tmp_path_factory.mktemp("run") / "run.xyz", make_reactive_stage())


def chart(findings, name):
    return next(one for one in findings.charts if one.name == name)


def test_reactive_electrolyte(reactive):
    """No metal: species, solvation, crystals; the notes say why layers and deposition are missing."""
    findings = run_pipeline(Pipeline(PipelineSettings()), open_trajectory(reactive))
    ec = next(one for one in chart(findings, "species").series if one.name == "EC")
    assert ec.y == [5] * 10 + [4] * 30
    assert ec.x[10] == 0.1
    events = next(table for table in findings.tables if table.name == "events")
    assert [row[0] for row in events.rows] == [10, 17, 25]
    assert events.header[:2] == ["frame", "time / ps"]  # as the charts
    assert events.rows[0][1] == 0.1
    assert {(findings.flows[0].nodes[a], findings.flows[0].nodes[b]) for a, b, _ in findings.flows[0].links} >= {
        ("EC", "C₂H₄"), ("PF₆⁻", "PF₅"),
    }  # fmt: skip
    assert [note.split(":")[0] for note in findings.notes[:2]] == ["No layers", "No deposition"]
    assert findings.snapshots[-1].label.startswith("frame 39")
    assert len(findings.snapshots) <= 9


def test_interface_gets_all_analyses(tmp_path):
    images = [make_interface(), make_interface(shift=3.0)]
    write(tmp_path / "run.xyz", images, format="extxyz")
    findings = run_pipeline(Pipeline(PipelineSettings()), open_trajectory(tmp_path / "run.xyz"))
    names = {one.name for one in findings.charts}
    assert {
        "species",
        "rdf",
        "ion_pairs",
        "density_profile",
        "crystallinity",
        "deposition",
        "losses",
    } <= names
    fractions = {one.name: one.y for one in chart(findings, "crystallinity").series}
    assert fractions["Na"][0] > 0.9
    assert findings.notes == []


def test_findings_survive_the_disk(reactive, tmp_path):
    findings = run_pipeline(Pipeline(PipelineSettings()), open_trajectory(reactive))
    findings.write(tmp_path)
    again = Findings.read(tmp_path / "findings.json")
    assert [one.name for one in again.charts] == [one.name for one in findings.charts]
    assert chart(again, "species").series[0].y == chart(findings, "species").series[0].y
    with (tmp_path / "reactions.csv").open() as file:
        assert len(list(csv.reader(file))) == 4
    (tmp_path / "findings.json").write_text("{}")
    with pytest.raises(ValueError, match="not findings of qnep"):
        Findings.read(tmp_path / "findings.json")


class Stopped(Exception):
    """Stands for the user's Ctrl-C."""


def test_stopped_analysis_goes_on_where_it_was(reactive, tmp_path):
    """Stopped after frame 20 and resumed: the same findings as in one go, and no frame read twice."""
    settings = PipelineSettings()
    whole = run_pipeline(Pipeline(settings), open_trajectory(reactive))
    key = fingerprint(reactive, settings)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pickle", key)

    def stop(frame, _fraction):
        if frame.index == 21:
            raise Stopped

    with pytest.raises(Stopped):
        run_pipeline(
            Pipeline(settings), open_trajectory(reactive), checkpoint, stop, checkpoint_seconds=0.0
        )
    assert Checkpoint(checkpoint.path, key + "other").load() is None
    pipeline = Checkpoint(checkpoint.path, key).load()
    assert pipeline.next_index == 21
    seen = []
    findings = run_pipeline(
        pipeline,
        open_trajectory(reactive, start=21),
        progress=lambda frame, _: seen.append(frame.index),
    )
    assert seen == list(range(21, 40))
    assert json.dumps(findings.charts, default=vars) == json.dumps(whole.charts, default=vars)
    assert findings.tables == whole.tables


TWO_ATOMS = """ITEM: TIMESTEP
{}
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0 9
0 9
0 9
ITEM: ATOMS id type x y z
1 1 1 1 1
2 2 5 5 5
"""


@pytest.mark.parametrize(
    ("option", "old", "new"),
    [
        ("--timestep", "0.5", "1.0"),
        ("--interval", "5", "50"),
        ("--elements", "H,O", "C,F"),
        ("--topology", "old.xyz", "new.xyz"),
        ("--stop", "7", "8"),
    ],
)
def test_analysis_read_differently_begins_anew(tmp_path, monkeypatch, option, old, new):
    """Stopped after frame 3 and called again with another option: nothing is left of the first call."""
    monkeypatch.chdir(tmp_path)
    for name, symbols in (("old.xyz", "HO"), ("new.xyz", "CF")):
        write(name, Atoms(symbols, cell=[9.0] * 3, pbc=True), format="extxyz")
    Path("run.lammpsdump").write_text("".join(TWO_ATOMS.format(100 * k) for k in range(8)))
    given = {"--timestep": "0.5", "--elements": "H,O", option: old}
    if option == "--topology":
        pytest.importorskip("MDAnalysis")
        given = {option: old}

    def analyse(options, folder):
        words = [word for pair in options.items() for word in pair]
        more = ["--only", "species", "--figures", "none", "--lifetime", "0", "-o", folder]
        assert main(["analyse", "run.lammpsdump", *words, *more]) == 0
        return json.loads((tmp_path / folder / "findings.json").read_text())

    save = Checkpoint.save_if_due

    def save_and_stop(checkpoint, pipeline, _seconds):
        save(checkpoint, pipeline, 0.0)
        if pipeline.n_frames == 4:
            raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Checkpoint, "save_if_due", save_and_stop)
        analyse(given, "out")
    assert Path("out/checkpoint.pickle").exists()
    assert analyse(given | {option: new}, "out") == analyse(given | {option: new}, "whole")


def test_unreadable_checkpoint_is_no_obstacle(tmp_path, caplog):
    (tmp_path / "checkpoint.pickle").write_bytes(b"nothing")
    assert Checkpoint(tmp_path / "checkpoint.pickle", "key").load() is None
    assert "starting anew" in caplog.text


def test_foreign_checkpoint_is_not_unpickled(tmp_path, caplog):
    """A pickle that makes a file when it is read, without a signature and with that of somebody else."""

    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    checkpoint = Checkpoint(tmp_path / "checkpoint.pickle", "key")
    for signature in (b"", bytes(32)):
        checkpoint.path.write_bytes(signature + pickle.dumps(("key", Trap())))
        assert checkpoint.load() is None
        assert "was not written here" in caplog.text
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap()))  # the trap works
    assert (tmp_path / "sprung").exists()


def test_error_in_the_middle_keeps_what_was_found(reactive, tmp_path, caplog):
    """From frame 30 on an atom is missing: 30 frames are analysed and the note says why no more."""
    lines = reactive.read_text().splitlines(keepends=True)
    n = int(lines[0])
    bad = [f"{n - 1}\n", *lines[30 * (n + 2) + 1 : 31 * (n + 2) - 1]]
    (tmp_path / "bad.xyz").write_text("".join(lines[: 30 * (n + 2)] + bad))
    with caplog.at_level(logging.CRITICAL):
        findings = run_pipeline(Pipeline(PipelineSettings()), open_trajectory(tmp_path / "bad.xyz"))
    assert findings.about["frames analysed"] == 30
    assert any("ends early" in note and "come and go" in note for note in findings.notes)


def test_command_writes_tables_pictures_and_network(reactive, tmp_path, capsys):
    folder = tmp_path / "out"
    arguments = [
        "analyse",
        str(reactive),
        "-o",
        str(folder),
        "--only",
        "species",
        "--figures",
        "png,pdf",
    ]
    assert main(arguments) == 0
    assert "40 frames analysed" in capsys.readouterr().out
    for name in ("species", "products", "flow", "gases", "cleavage_EC"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (folder / f"{name}.csv").exists()
    assert networkx.read_graphml(folder / "network.graphml").number_of_nodes() > 5
    assert not (folder / "checkpoint.pickle").exists()


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_an_analysis_takes_away_what_an_earlier_one_wrote_and_nothing_else(reactive, tmp_path):
    """Species before, solvation now; stays: a file of somebody, and a figure that somebody changed."""
    folder, alone = tmp_path / "out", tmp_path / "alone"
    assert main(["analyse", str(reactive), "-o", str(folder), "--only", "species"]) == 0
    earlier = names_in(folder)
    assert {"species.csv", "species.png", "species.pdf", "network.graphml"} <= earlier
    (folder / "notes.csv").write_text("mine")
    (folder / "gases.png").write_text("drawn by hand")
    more = ["--only", "solvation", "--figures", "png"]
    for where in (folder, alone):
        assert main(["analyse", str(reactive), "-o", str(where), *more]) == 0
    assert names_in(folder) - names_in(alone) == {"notes.csv", "gases.png"}
    assert {"rdf.csv", "rdf.png"} <= names_in(folder)
    assert (folder / "gases.png").read_text() == "drawn by hand"


def test_files_of_an_analysis_that_was_killed_while_writing_are_taken_away(
    reactive, tmp_path, monkeypatch
):
    """Killed before its figures: the next one still knows the files of both."""
    from qnep.analysis import command

    def stop(*_):
        raise Stopped

    folder = tmp_path / "out"
    words = ["analyse", str(reactive), "-o", str(folder), "--figures", "png", "--only"]
    assert main([*words, "species"]) == 0
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(command, "write_figures", stop)
        main([*words, "solvation"])
    assert {"species.png", "rdf.csv"} <= names_in(folder)
    assert main([*words, "crystals"]) == 0
    assert not {"species.csv", "species.png", "rdf.csv"} & names_in(folder)


def test_findings_that_are_no_analysis_keep_their_files(reactive, tmp_path):
    """As the surface energies of `qnep wulff`, which may have taken days."""
    Findings(tables=[Table("surface_energies", "Wulff", "", "", ["facet"], [["(100)"]])]).write(
        tmp_path
    )
    assert main(["analyse", str(reactive), "-o", str(tmp_path), "--only", "solvation"]) == 0
    assert (tmp_path / "surface_energies.csv").exists()


def test_list_of_files_reaches_no_other_folder(tmp_path):
    """A list that was tampered with, with digests that fit."""
    folder = tmp_path / "out"
    folder.mkdir()
    outside = tmp_path / "outside.csv"
    outside.write_text("x")
    inside = folder / "inside.csv"
    inside.write_text("x")
    digest = digests_of([outside])["outside.csv"]
    names = ("inside.csv", "../outside.csv", str(outside))
    findings = Findings(files=dict.fromkeys(names, digest))
    findings.drop_files_but(folder, [])
    assert outside.exists()
    assert not inside.exists()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("file", "file/findings.json: wanted a folder to write to, but file is none"),
        ("file/out", "but file is none"),
        ("taken", "taken/findings.json: wanted the name of a file, got a folder"),
        ("locked", "the folder locked cannot be written to"),
        ("locked/new/out", "the folder locked cannot be written to"),
    ],
)
@pytest.mark.parametrize("program", ["analyse", "wulff", "report"])
def test_output_is_checked_before_the_work(
    reactive, tmp_path, monkeypatch, capsys, program, output, message
):
    """`access` is made to answer as it does anyone but root."""
    from qnep.analysis import command, wulff_command

    monkeypatch.chdir(tmp_path)
    for name in ("locked", "taken/findings.json", "taken/report.html", "run"):
        Path(name).mkdir(parents=True)
    Path("file").touch()
    Path("run", "run.xyz").write_bytes(reactive.read_bytes())
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != Path("locked"))
    monkeypatch.setattr(command, "run_pipeline", lambda *_: pytest.fail("too late"))
    monkeypatch.setattr(wulff_command, "surface_energies", lambda *_, **__: pytest.fail("too late"))
    arguments = {
        "analyse": ["run/run.xyz", "-o", output],
        "wulff": ["--calculator", "ase.calculators.emt:EMT", "-o", output],
        "report": ["run", "-o", f"{output}/report.html"],
    }
    assert main([program, *arguments[program]]) == 2
    if program == "report":
        message = message.replace("findings.json", "report.html")
    assert message in capsys.readouterr().err
    assert not Path("locked/new").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--only", "magic"], "no analysis magic; there are species, solvation"),
        (["--only", "layers"], "the analysis layers needs a metal and a box"),
        (["--bond", "C-H"], "wanted PAIR=FORM:BREAK"),
        (["--lattice", "fcc:Na"], "lattice must be rocksalt or bcc"),
        (["--figures", "gif", "--only", "species"], "pictures can be png, pdf or svg, got gif"),
        (["--start", "100"], "no whole frame from number 100"),
        (["--cation", "fe"], "must be an element of the trajectory, C, F, H, Na, O, P, got fe"),
        (["--cation", "na"], "must be an element of the trajectory, C, F, H, Na, O, P, got na"),
        (["--cation", "K", "--only", "species"], "C, F, H, Na, O, P, got K"),
        (["--interval", "0"], "(--interval) must be positive and finite, got 0 fs"),
        (["--timestep", "-0.5"], "(--timestep) must be positive and finite, got -0.5 fs"),
        (["--timestep", "nan"], "(--timestep) must be positive and finite, got nan fs"),
    ],
)
def test_command_says_what_is_wrong(reactive, tmp_path, capsys, extra, message):
    assert main(["analyse", str(reactive), "-o", str(tmp_path), *extra]) == 2
    assert message in capsys.readouterr().err


def test_missing_file_and_unknown_pair(tmp_path, capsys):
    assert main(["analyse", str(tmp_path / "nothing.xyz")]) == 2
    assert "no such trajectory" in capsys.readouterr().err
    stage = Stage(n_frames=1)
    stage.place(embed("CBr"))
    write_stage(tmp_path / "run.xyz", stage)
    assert main(["analyse", str(tmp_path / "run.xyz")]) == 2
    assert "pairs Br-H, Br-C, Br-Br: give the distances" in capsys.readouterr().err


def test_crystals_of_a_molecular_dynamics_without_molecules(tmp_path):
    """A plain NaF crystal: ions and one crystal, and no cation of the electrolyte's kind is lost."""
    write(
        tmp_path / "run.xyz", bulk("NaF", "rocksalt", a=4.63, cubic=True).repeat(3), format="extxyz"
    )
    findings = run_pipeline(Pipeline(PipelineSettings()), open_trajectory(tmp_path / "run.xyz"))
    (nuclei,) = [table for table in findings.tables if table.name == "nuclei"]
    assert nuclei.rows[0][:3] == ["NaF", 1, 216]


def test_formats_are_checked_before_anything_is_read(reactive, tmp_path, capsys, monkeypatch):
    from qnep.analysis import command

    monkeypatch.setattr(command, "analyse", lambda *_: pytest.fail("too late"))
    assert main(["analyse", str(reactive), "-o", str(tmp_path / "out"), "--figures", "jpg"]) == 2
    assert "pictures can be png, pdf or svg, got jpg" in capsys.readouterr().err


def test_axes_by_letter_and_by_number():
    import argparse

    from qnep.axis_option import parse_axis

    assert [parse_axis(text) for text in ("x", "Y", "z", "0", "1", "2")] == [0, 1, 2, 0, 1, 2]
    for text in ("w", "3", "", "xy"):
        with pytest.raises(argparse.ArgumentTypeError, match="an axis is x, y or z"):
            parse_axis(text)


def test_options_become_settings():
    import argparse

    parser = argparse.ArgumentParser()
    add_analysis_options(parser)
    options = parser.parse_args(["--bond", "C-Cl=2:2.4", "--normal", "x", "--anode", "1", "5"])
    settings = AnalysisOptions(**given_options(options)).settings()
    assert settings.bonds == (("C-Cl", (2.0, 2.4)),)
    assert (settings.normal, settings.anode_range) == (0, (1.0, 5.0))
    assert AnalysisOptions(**given_options(parser.parse_args([]))).settings() == PipelineSettings()


def test_mdanalysis_runs_our_analyses(reactive):
    """The same reactions through MDAnalysis' AnalysisBase as through our own reader."""
    mda = pytest.importorskip("MDAnalysis")
    import warnings

    import numpy as np

    from qnep.analysis import SpeciesAnalysis
    from qnep.analysis.mdanalysis_adapter import FrameAnalysis

    frames = list(open_trajectory(reactive))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = mda.Universe.empty(frames[0].n_atoms, trajectory=True)
        universe.add_TopologyAttr("elements", frames[0].to_ase().get_chemical_symbols())
        universe.load_new(
            np.array([frame.positions for frame in frames], dtype=np.float32),
            dimensions=np.tile(frames[0].to_ase().cell.cellpar(), (40, 1)), dt=0.01,
        )  # fmt: skip
        run = FrameAnalysis(universe.atoms, SpeciesAnalysis()).run()
    assert [reaction.frame for reaction in run.results.found.reactions] == [10, 17, 25]


@pytest.mark.parametrize(
    ("dt_ps", "interval_fs", "times"),
    [(None, None, [0, 1, 2]), (0.01, None, [0, 10, 20]), (None, 5.0, [0, 5, 10])],
)
def test_mdanalysis_default_interval_is_no_time(dt_ps, interval_fs, times, caplog):
    """An array in memory without dt has 1 ps between its frames for MDAnalysis: here frames are counted."""
    mda = pytest.importorskip("MDAnalysis")
    import numpy as np

    from qnep.analysis.mdanalysis_adapter import FrameAnalysis

    class Times(list):
        """Keeps the time of each frame."""

        def add(self, frame):
            self.append((frame.time, frame.time_fs is None))

        def result(self):
            return self

    universe = mda.Universe.empty(1, trajectory=True)
    universe.add_TopologyAttr("elements", ["Na"])
    given = {} if dt_ps is None else {"dt": dt_ps}
    universe.load_new(np.zeros((3, 1, 3), dtype=np.float32), **given)
    run = FrameAnalysis(universe.atoms, Times(), frame_interval_fs=interval_fs).run()
    is_unknown = dt_ps is None and interval_fs is None
    assert [time for time, _ in run.results.found] == pytest.approx(times)
    assert {flag for _, flag in run.results.found} == {is_unknown}
    assert ("give frame_interval_fs" in caplog.text) == is_unknown


def test_temperature_of_a_frame_with_velocities():
    """3/2 n k T by hand: 300 K for one Na of speed sqrt(3 k T / m)."""
    import numpy as np
    from ase import Atoms
    from ase.units import fs, kB

    atoms = Atoms("Na")
    speed = np.sqrt(3 * kB * 300 / atoms.get_masses()[0]) * fs  # Å/fs
    frame = Frame(
        np.zeros((1, 3)),
        atoms.numbers,
        np.zeros((3, 3)),
        np.zeros(3, bool),
        velocities=np.array([[speed, 0, 0]]),
    )
    assert frame.temperature == pytest.approx(300.0)
