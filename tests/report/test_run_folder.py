"""What a run leaves in its folder is found and told: log, model, settings, trajectory."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from qnep.analysis.findings import Findings, Table
from qnep.cli import main
from qnep.report import command as report_command
from qnep.report.model_card import card_text, is_model, model_facts
from qnep.report.run_folder import RunFolder
from qnep.report.thermo_log import read_thermo, thermo_charts

LOG = """LAMMPS (22 Jul 2025)
timestep 0.0005
   Step          Temp          PotEng
         0   300           -10.5
WARNING: something (src/x.cpp:1)
       100   310.5         -10.25
Loop time of 1.2 on 1 procs for 100 steps with 8 atoms
   Step          Temp          PotEng
       100   310.5         -10.25
       200   305           -10.125
       300   30"""

MODEL = "nep4_zbl 2 Na F\nzbl 0.7 1.4\ncutoff 6 4 100 80\nn_max 4 4\nANN 30 0\n0.125\n0.25\n"


@pytest.fixture
def folder(tmp_path):
    """A run of NaF: log, model with card, settings, input and trajectory."""
    (tmp_path / "log.lammps").write_text(LOG)
    (tmp_path / "nep.txt").write_text(MODEL)
    (tmp_path / "nep.md").write_text("# Card\nPBE-D3")
    (tmp_path / "md.json").write_text(
        json.dumps({"temperature": 450, "steps": [1, 2], "ensemble": "nvt"})
    )
    (tmp_path / "in.lammps").write_text("pair_style qnep <fast>")
    atoms = bulk("NaF", "rocksalt", a=4.63, cubic=True).repeat(2)
    images = []
    for k in range(3):
        images.append(atoms.copy())
        images[-1].positions += 0.05 * np.random.default_rng(k).normal(size=(64, 3))
        images[-1].info["Time"] = 100.0 * k
    write(tmp_path / "run.xyz", images, format="extxyz")
    return tmp_path


def test_thermo_of_a_log_that_was_cut(folder):
    """The row at step 100 counts once, the last one is cut off, the warning in between does no harm."""
    columns = read_thermo(folder / "log.lammps")
    assert columns["Step"] == [0, 100, 200]
    assert columns["PotEng"] == [-10.5, -10.25, -10.125]
    charts = {chart.name: chart for chart in thermo_charts(folder / "log.lammps")}
    assert charts["log_temperature"].series[0].x == [0.0, 0.05, 0.1]
    assert charts["log_temperature"].x_label == "time / ps"


def test_log_without_thermo_gives_nothing(tmp_path):
    (tmp_path / "log.lammps").write_text("LAMMPS\nERROR: no atoms\n")
    assert thermo_charts(tmp_path / "log.lammps") == []


def test_model_header_and_card(folder):
    facts = model_facts(folder / "nep.txt")
    assert facts["kind"] == "nep4_zbl"
    assert facts["elements"] == "Na F"
    assert facts["cutoff"] == "6 4 100 80"
    assert "0.125" not in facts
    assert card_text(folder / "nep.txt").startswith("# Card")
    assert not is_model(folder / "md.json")


def test_shipped_models_of_other_codes_are_known(shared_data):
    for path in sorted((shared_data / "models").glob("*NEP*.txt")):
        assert is_model(path)
        assert model_facts(path)["kind"].startswith("nep")


def test_facts_of_the_folder(folder):
    run = RunFolder(folder).facts()
    assert run.facts["temperature"] == "450 K"
    assert "steps" not in run.facts
    assert run.texts["in.lammps"] == "pair_style qnep <fast>"
    assert run.texts["model card"].startswith("# Card")
    assert RunFolder(folder).trajectories() == [folder / "run.xyz"]


def test_protocol_and_model_of_a_deposition(folder):
    """From the state of `qnep deposit`, which is large; the model is the one that its force field names."""
    model = folder / "nep.txt"
    run = folder / "run"
    run.mkdir()
    state = {
        "format": 1, "step": 900, "rows": [{"interval": 0}], "molecules": ["x" * 30000],
        "protocol": {"temperature": 300.0, "timestep_fs": 0.5, "frozen": [1, 2, 3], "variables": ["height"],
                     "spring": 2.0, "interval_ps": 0.1},
        "force_field": {"commands": f"pair_style qnep\npair_coeff * * {model} Na F", "elements": ["Na", "F"]},
    }  # fmt: skip
    (run / "state.json").write_text(json.dumps(state))
    told = RunFolder(run).facts()
    assert told.facts["temperature"] == "300 K"
    assert told.facts["timestep"] == "0.5 fs"
    assert told.facts["interval"] == "0.1 ps"
    assert told.facts["spring"] == "2 eV/Å²"
    assert told.facts["variables"] == "height"
    assert not {"step", "frozen", "format"} & set(told.facts)
    assert told.model["file"] == "nep.txt"
    (run / "state.json").write_text(json.dumps({"policy": {}, "temperature": 1.0}))  # of qnep learn
    assert set(RunFolder(run).facts().facts) == {"folder"}


@pytest.mark.parametrize(
    ("name", "settings", "given", "time_fs"),
    [
        ("trajectory.lammpstrj", "md.json", {"timestep": 0.5}, 50.0),
        ("trajectory.dump", "state.json", {"protocol": {"timestep_fs": 2.0}}, 200.0),
        ("other.dump", "md.json", {"timestep": 0.5}, None),
        ("trajectory.dump", "state.json", {"policy": {}}, None),
    ],
)
def test_time_step_stands_beside_the_trajectory(tmp_path, caplog, name, settings, given, time_fs):
    """Trajectories of `qnep md` and `qnep deposit` count steps; without a time there are no rates."""
    frame = (
        "ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\n"
        "ITEM: ATOMS id element x y z\n1 Na 0 0 0\n2 F 2.3 0 {step}e-3\n"
    )
    (tmp_path / name).write_text("".join(frame.format(step=step) for step in (0, 100, 200)))
    (tmp_path / settings).write_text(json.dumps(given))
    assert main(["report", str(tmp_path), "--only", "species"]) == 0
    findings = Findings.read(tmp_path / f"{name}.analysis" / "findings.json")
    (chart,) = [chart for chart in findings.charts if chart.name == "species"]
    assert ("frames are counted instead" in caplog.text) == (time_fs is None)
    if time_fs is None:
        assert chart.x_label == "frame"
    else:
        assert chart.x_label == "time / ps"
        assert chart.series[0].x == [0.0, time_fs / 1000, 2 * time_fs / 1000]


@pytest.mark.parametrize("screen", ["screen.txt", "interval_0001/in.lammps.screen"])
def test_error_of_lammps_is_told(tmp_path, screen):
    (tmp_path / screen).parent.mkdir(exist_ok=True)
    error = "ERROR: pair_style qnep, keyword kspace: wanted <an accuracy>"
    (tmp_path / screen).write_text(f"LAMMPS\n{error}\nLast input line: pair_style\n")
    (note,) = RunFolder(tmp_path).history().notes
    assert screen in note and error in note and "Last input line: pair_style" in note
    (tmp_path / screen).write_text("LAMMPS\nTotal wall time: 0:00:01\n")
    assert RunFolder(tmp_path).history().notes == []


def test_deposition_table_becomes_charts(folder):
    (folder / "deposition.csv").write_text("interval,time_ps,in_sei,note\n0,0.5,0,a\n1,2.5,2,b\n")
    charts = {chart.title: chart for chart in RunFolder(folder).history().charts}
    chart = charts["Sodium in the SEI"]
    assert (chart.series[0].x, chart.series[0].y) == ([0.5, 2.5], [0.0, 2.0])
    assert (chart.x_label, chart.y_label) == ("time / ps", "atoms")
    assert not {"note", "interval", "time_ps"} & set(charts)


def test_report_command_analyses_and_writes(folder, capsys):
    assert main(["report", str(folder), "--figures", "pdf"]) == 0
    assert "report.html" in capsys.readouterr().out
    page = (folder / "report.html").read_text(encoding="utf-8")
    for text in (
        "PBE-D3",
        "pair_style qnep &lt;fast&gt;",
        "log_temperature",
        "crystallinity",
        "450",
    ):
        assert text in page
    assert (folder / "figures" / "log_temperature.pdf").exists()
    assert (folder / "run.xyz.analysis" / "findings.json").exists()
    (folder / "run.xyz").unlink()  # now the findings are there
    assert main(["report", str(folder), "-o", str(folder / "again.html")]) == 0
    assert "crystallinity" in (folder / "again.html").read_text(encoding="utf-8")


@pytest.fixture
def analysed(folder):
    """The run after an analysis with options of its own, figures among them."""
    options = ["--only", "species", "--interval", "50", "--figures", "png"]
    assert main(["analyse", str(folder / "run.xyz"), *options]) == 0
    return folder


def frames_and_step(folder):
    """Number of frames that the findings are of, and their last time."""
    findings = Findings.read(folder / "run.xyz.analysis" / "findings.json")
    (chart,) = [chart for chart in findings.charts if chart.name == "species"]
    return findings.about["frames analysed"], chart.series[0].x[-1]


def report_without_analysis(folder, monkeypatch, *options):
    with monkeypatch.context() as patch:
        patch.setattr(report_command, "analyse", lambda *_: pytest.fail("analysed again"))
        assert main(["report", str(folder), *options]) == 0


def test_findings_that_are_up_to_date_are_taken_as_they_are(
    analysed, monkeypatch, tmp_path_factory
):
    """Without options, with those that they were made with, and after the run was moved until it goes on there."""
    report_without_analysis(analysed, monkeypatch)
    report_without_analysis(analysed, monkeypatch, "--interval", "50", "--only", "species")
    report_without_analysis(analysed, monkeypatch, "--trajectory", str(analysed / "run.xyz"))
    moved = tmp_path_factory.mktemp("elsewhere") / "run"
    shutil.copytree(analysed, moved)  # with the times of the files
    shutil.rmtree(analysed)
    report_without_analysis(moved, monkeypatch)
    with (moved / "run.xyz").open("a") as file:
        file.write((moved / "run.xyz").read_text())
    assert main(["report", str(moved)]) == 0
    assert frames_and_step(moved)[0] == 6


def test_a_run_that_went_on_is_analysed_again_as_before(analysed, caplog, capsys):
    """The options of the first analysis hold, and its figures are drawn again; one line says so."""
    folder = analysed / "run.xyz.analysis"
    assert frames_and_step(analysed) == (3, 0.1)
    before = (folder / "species.png").read_bytes()
    with (analysed / "run.xyz").open("a") as file:
        file.write((analysed / "run.xyz").read_text())
    assert main(["report", str(analysed)]) == 0
    assert frames_and_step(analysed) == (6, 0.25)
    assert (folder / "species.png").read_bytes() != before
    assert not (folder / "crystallinity.csv").exists()
    assert "0.25" in (analysed / "report.html").read_text(encoding="utf-8")
    (line,) = [text for text in caplog.messages if "analysing again" in text]
    assert re.search(r"run.xyz.analysis: .* run.xyz has \d+ bytes, had \d+", line)


def test_a_trajectory_of_the_same_size_that_was_written_again_is_analysed_again(analysed, caplog):
    path = analysed / "run.xyz"
    later = path.stat().st_mtime + 10
    path.write_text(path.read_text().replace("Na ", "Li ", 1))
    os.utime(path, (later, later))
    assert main(["report", str(analysed)]) == 0
    assert "run.xyz was written again since" in caplog.text
    findings = Findings.read(analysed / "run.xyz.analysis" / "findings.json")
    assert "Li" in findings.snapshots[0].symbols


def test_options_of_the_report_make_it_analyse_again(analysed, caplog, monkeypatch):
    """Those that are given replace those of the first analysis, the others stay."""
    assert main(["report", str(analysed), "--interval", "20", "--stop", "2"]) == 0
    assert (
        "analysing again, since --interval is 20.0, was 50.0, --stop is 2, was not given"
        in caplog.text
    )
    assert frames_and_step(analysed) == (2, 0.02)
    assert not (analysed / "run.xyz.analysis" / "crystallinity.csv").exists()
    report_without_analysis(analysed, monkeypatch)
    assert main(["report", str(analysed), "--only", "species,crystals"]) == 0
    assert (analysed / "run.xyz.analysis" / "crystallinity.csv").exists()


def test_options_that_cannot_be_followed_are_refused(analysed, capsys):
    (analysed / "run.xyz").unlink()
    assert main(["report", str(analysed), "--lifetime", "100"]) == 2
    error = capsys.readouterr().err
    assert "--lifetime is 100.0, was 50.0" in error
    assert "run.xyz is not there any more" in error


def test_findings_of_something_else_do_not_keep_options_from_the_trajectory(folder, monkeypatch):
    """Surface energies beside a trajectory that was never analysed: both are told."""
    table = Table("surface_energies", "Wulff", "Surface energies", "", ["facet"], [["(100)"]])
    Findings(tables=[table]).write(folder / "wulff")
    report_without_analysis(folder, monkeypatch)
    assert main(["report", str(folder), "--only", "species"]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "surface_energies" in page
    assert frames_and_step(folder)[0] == 3


def test_findings_that_do_not_say_how_they_were_made_are_said_to_be_so(
    analysed, caplog, monkeypatch
):
    """As those of a version that did not keep it; options make them anew, in the same place."""
    path = analysed / "run.xyz.analysis" / "findings.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in data.items() if k not in ("origin", "files")}))
    report_without_analysis(analysed, monkeypatch)
    assert "findings.json does not say how it was made" in caplog.text
    assert main(["report", str(analysed), "--interval", "20"]) == 0
    assert frames_and_step(analysed) == (3, 0.04)
    page = (analysed / "report.html").read_text(encoding="utf-8")
    assert page.count('"name": "species", "section"') == 1


def test_several_trajectories_need_a_choice(folder, capsys):
    (folder / "dump.xyz").write_bytes((folder / "run.xyz").read_bytes())
    assert main(["report", str(folder)]) == 2
    assert "choose with --trajectory: dump.xyz, run.xyz" in capsys.readouterr().err
    assert (
        main(["report", str(folder), "--trajectory", str(folder / "run.xyz"), "--only", "species"])
        == 0
    )


def test_missing_folder_and_empty_folder(tmp_path, capsys):
    assert main(["report", str(tmp_path / "nothing")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 0
    assert "no trajectory in this folder" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["start.dump", "trajectory.dump"], ["trajectory.dump"]),  # qnep deposit
        (
            ["cell.extxyz", "state.extxyz", "trajectory.extxyz"],
            ["trajectory.extxyz"],
        ),  # qnep electrode
        (["start.dump"], ["start.dump"]),
        (["run.xyz.gz"], ["run.xyz.gz"]),
        (["run.extxyz.gz"], ["run.extxyz.gz"]),
        (["b.xyz", "a.lammpstrj", "state.extxyz"], ["a.lammpstrj", "b.xyz"]),
    ],
)
def test_trajectories_of_a_folder(tmp_path, names, found):
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in RunFolder(tmp_path).trajectories()] == found


def test_logs_are_taken_pattern_by_pattern(tmp_path):
    """The run's own log goes before one whose name comes first in the alphabet."""
    for name in ("equilibration.log", "log.equilibration", "log.lammps"):
        (tmp_path / name).write_text(LOG)
        charts = RunFolder(tmp_path).history().charts
        assert {chart.caption for chart in charts} == {f"From {name}."}


LEG = """LAMMPS (22 Jul 2025)
timestep {timestep}
   Step          Time           Temp
{rows}
"""


def write_legs(folder, legs):
    """Logs of legs {name: (time step in ps, steps)}; temperatures tell leg and step: 2200 is step 200 of leg 2."""
    for number, (name, (timestep, steps)) in enumerate(legs.items(), start=1):
        rows = "\n".join(f"{step} {step * timestep} {1000 * number + step}" for step in steps)
        (folder / name).write_text(LEG.format(timestep=timestep, rows=rows))


def test_logs_of_all_legs_of_a_resumed_run_are_joined(tmp_path):
    """Oldest first by their numbers, not their names; where steps overlap, those of the later leg."""
    legs = {f"log.lammps.{k}": (0.0005, [1000 * k, 1000 * k + 500]) for k in range(2, 12)}
    legs = {"log.lammps.1": (0.0005, [0, 500, 1000, 1500, 2000, 2500]), **legs}
    legs["log.lammps"] = (0.0005, [11500, 12000])
    write_legs(tmp_path, legs)
    (chart,) = RunFolder(tmp_path).history().charts
    (curve,) = chart.series
    assert curve.x == pytest.approx([0.25 * k for k in range(25)])
    numbers = [1, 1, 1, 1, *(k for k in range(2, 11) for _ in (0, 1)), 11, 12, 12]
    assert curve.y == [1000 * number + 500 * k for k, number in enumerate(numbers)]
    assert chart.caption.startswith("From log.lammps.1, log.lammps.2, log.lammps.3, ")


def test_legs_that_began_anew_or_never_ran_do_not_count(tmp_path):
    """The time step of a start that failed is not that of the run; LAMMPS may not have come to write a last log."""
    write_legs(tmp_path, {"log.lammps.1": (0.001, [0, 100]), "log.lammps.3": (0.002, [0, 50])})
    (tmp_path / "log.lammps.2").write_text("LAMMPS\nERROR: no model\n")
    (chart,) = RunFolder(tmp_path).history().charts
    assert (chart.series[0].x, chart.series[0].y) == ([0.0, 0.1], [2000, 2050])
    assert chart.x_label == "time / ps"
    assert chart.caption == "From log.lammps.3."


def test_logs_of_partitions_are_not_joined(tmp_path):
    write_legs(tmp_path, {f"log.lammps.{k}": (0.001, [0, 100 + k]) for k in range(3)})
    (tmp_path / "log.lammps").write_text("LAMMPS\nRunning on 3 partitions\n")
    (chart,) = RunFolder(tmp_path).history().charts
    assert chart.caption == "From log.lammps.0."


FULL_LOG = """LAMMPS (22 Jul 2025)
{units}
{timestep}
   Step          Temp          TotEng         Press          Volume
         0   300           -10.5         1.0     1000
      1000   310           -10.4         2.0     1000
"""


@pytest.mark.parametrize(
    ("units", "timestep", "x_label", "last", "labels"),
    [
        ("units metal", "timestep 0.0005", "time / ps", 0.5, ["K", "eV", "bar", "Å³"]),
        ("units real", "timestep 0.5 # fs", "time / ps", 0.5, ["K", "kcal/mol", "atm", "Å³"]),
        ("units real", "timestep 0.5\ntimestep 1", "step", 1000, ["K", "kcal/mol", "atm", "Å³"]),
        ("units lj", "timestep 0.005", "step", 1000, ["", "", "", ""]),
        ("  Unit style    : real", "  Time step     : 2", "time / ps", 2.0,
         ["K", "kcal/mol", "atm", "Å³"]),
        ("", "timestep 0.0005", "time / ps", 0.5, ["K", "eV", "bar", "Å³"]),
        ("units metal", "", "step", 1000, ["K", "eV", "bar", "Å³"]),
    ],
)  # fmt: skip
def test_units_of_a_log(tmp_path, units, timestep, x_label, last, labels):
    path = tmp_path / "log.lammps"
    path.write_text(FULL_LOG.format(units=units, timestep=timestep))
    charts = thermo_charts(path)
    assert [chart.y_label for chart in charts] == labels
    assert {chart.x_label for chart in charts} == {x_label}
    assert charts[0].series[0].x == [0.0, last]


def test_table_without_a_unit_has_no_empty_brackets(tmp_path):
    path = tmp_path / "log.lammps"
    path.write_text(FULL_LOG.format(units="units lj", timestep=""))
    assert thermo_charts(path)[0].rows()[0] == ["step", "temperature"]
