"""The command `qnep label`."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.io import read, write

from qnep.cli import main
from qnep.dft import Pool

BACKEND = ("--backend", "fakes:lennard_jones")


@pytest.fixture
def folder(tmp_path, monkeypatch, numbered_pairs):
    monkeypatch.chdir(tmp_path)
    write("frames.extxyz", numbered_pairs(3))
    return tmp_path


def test_label_and_export(folder, capsys):
    assert main(["label", "frames.extxyz", *BACKEND, "--jobs", "2", "--export", "out.extxyz"]) == 0
    assert "3 labelled, 0 already in the pool" in capsys.readouterr().out
    assert len(read(folder / "out.extxyz", ":")) == 3
    assert main(["label", "frames.extxyz", *BACKEND]) == 0
    assert "0 labelled, 3 already in the pool" in capsys.readouterr().out


def test_settings_by_name(folder, capsys):
    command = "label frames.extxyz --backend ase.calculators.lj:LennardJones --export out.extxyz"
    assert main([*command.split(), "--set", "options={sigma=1.0}", "--set", "level=small"]) == 0
    atoms = read(folder / "out.extxyz", 0)
    # 4 ε [(σ/r)¹² - (σ/r)⁶] at r = 2.4 σ is -0.0207 ε; shifted by its value at the cutoff 3 σ, +0.0055 ε.
    assert atoms.get_potential_energy() == pytest.approx(-0.0152, abs=2e-4)
    assert atoms.info["level"].startswith("small")


def test_adopted_labels_are_not_computed_again(folder, capsys):
    main(["label", "frames.extxyz", *BACKEND, "--export", "out.extxyz"])
    assert main(["label", "--pool", "other.db", "--adopt", "out.extxyz"]) == 0
    assert "3 labels taken from out.extxyz" in capsys.readouterr().out
    main(["label", "frames.extxyz", *BACKEND, "--pool", "other.db"])
    assert "0 labelled, 3 already in the pool" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("energy=-1", "energy=nan", "energy is not finite"),
        ("0.5 -0.5 0", "0.5 inf 0", "forces is not finite"),
        ('"9 0 0', '"nan 0 0', "stress is not finite"),
        ("kpts=1x1x1", "kpts=gamma", "a k-point grid is written like 2x2x1, got 'gamma'"),
        ("charge=0", "charge=nan", "charge"),
    ],
)
def test_adopted_labels_are_looked_at(folder, capsys, old, new, message):
    """One wrong frame, and none of the file is taken; a grid in capitals is the same grid."""
    comment = (
        'lattice="10 0 0 0 10 0 0 0 9" energy=-1 virial="9 0 0 0 0 0 0 0 0" level=LJ kpts=1x1x1 charge=0 '
        "properties=species:S:1:pos:R:3:force:R:3"
    )
    good = f"1\n{comment}\nAr 0 0 0 0.5 -0.5 0\n"
    wrong = good.replace(old, new)
    assert wrong != good
    (folder / "labels.xyz").write_text(good + wrong)
    assert main(["label", "--pool", "adopted.db", "--adopt", "labels.xyz"]) == 2
    error = capsys.readouterr().err
    assert "frame 1" in error and message in error
    assert len(Pool("adopted.db")) == 0
    (folder / "labels.xyz").write_text(good.replace("1x1x1", "2X1x1"))
    assert main(["label", "--pool", "adopted.db", "--adopt", "labels.xyz"]) == 0
    (adopted,) = Pool("adopted.db").frames()
    assert adopted.info["kpts"] == "2x1x1"


def test_the_charge_of_the_settings_reaches_the_training(folder):
    """One frame says that it is neutral: its own word counts."""
    pytest.importorskip("torch", reason="training needs the extra `train` (PyTorch)")
    from qnep.train import load_frames

    frames = read("frames.extxyz", ":")
    frames[2].info["charge"] = 0
    write("frames.extxyz", frames)
    command = ["label", "frames.extxyz", *BACKEND, "--set", "total_charge=1", "--export"]
    assert main([*command, "out.extxyz"]) == 0
    loaded = load_frames(["out.extxyz"], ["Ar"])
    assert [frame.total_charge for frame in loaded] == [1.0, 1.0, 0.0]


def test_both_names_of_the_charge_of_a_frame(folder, numbered_pairs):
    frames = numbered_pairs(4)
    frames[0].info["charge"] = 1
    frames[1].info["total_charge"] = -1
    frames[2].info.update(charge=2, total_charge=2)
    write("frames.extxyz", frames)
    assert main(["label", "frames.extxyz", *BACKEND, "--export", "out.extxyz"]) == 0
    exported = read(folder / "out.extxyz", ":")
    assert [atoms.info.get("charge") for atoms in exported] == [1, -1, 2, None]
    assert [atoms.info["level"].split()[-1] for atoms in exported[:3]] == ["q+1", "q-1", "q+2"]
    assert not any("total_charge" in atoms.info for atoms in exported)
    # Adopted labels have no settings: the words of their file count.
    for atoms in exported[:2]:
        atoms.info["total_charge"] = atoms.info.pop("charge")
    write("out.extxyz", exported)
    assert main(["label", "--pool", "other.db", "--adopt", "out.extxyz"]) == 0
    adopted = Pool("other.db").frames()
    assert [atoms.info.get("charge") for atoms in adopted] == [1, -1, 2, None]


@pytest.mark.parametrize("option", [["frames.extxyz"], ["--adopt", "frames.extxyz"]])
def test_charges_that_contradict_each_other(folder, capsys, option):
    main(["label", "frames.extxyz", *BACKEND, "--export", "labelled.extxyz"])
    frames = read("labelled.extxyz", ":")
    frames[1].info.update(charge=1, total_charge=2)
    write("frames.extxyz", frames)
    assert main(["label", *BACKEND, "--pool", "other.db", *option]) == 2
    error = capsys.readouterr().err
    assert "frame 1" in error and "got charge=1 and total_charge=2" in error


def test_files_in_the_dialect_of_gpumd(folder, capsys):
    """The cell counts in lower case too, and a virial is a stress: -W / V = -9 / 900."""
    comment = (
        'lattice="10 0 0 0 10 0 0 0 9" energy=-1 virial="9 0 0 0 0 0 0 0 0" level=LJ kpts=1x1x1 '
        "properties=species:S:1:pos:R:3:force:R:3"
    )
    (folder / "gpumd.xyz").write_text(f"1\n{comment}\nAr 0 0 0 0 0 0\n")
    assert main(["label", "--pool", "adopted.db", "--adopt", "gpumd.xyz"]) == 0
    (adopted,) = Pool("adopted.db").frames()
    assert adopted.cell.lengths() == pytest.approx([10, 10, 9])
    assert adopted.get_stress() == pytest.approx([-0.01, 0, 0, 0, 0, 0])
    assert main(["label", "gpumd.xyz", *BACKEND]) == 0
    (labelled,) = Pool("labels.db").frames()
    assert labelled.cell.lengths() == pytest.approx([10, 10, 9])
    assert labelled.pbc.all()


@pytest.mark.parametrize("option", [["--export", "out/train.xyz"], ["--export-split", "out"]])
def test_export_without_labels_writes_nothing(folder, capsys, option):
    (folder / "out").mkdir()
    for name in ("train.xyz", "train.extxyz.gz"):
        (folder / "out" / name).write_text("dear to somebody")
    assert main(["label", "--pool", "typo.db", *option]) == 2
    assert "there is no pool typo.db" in capsys.readouterr().err
    Pool("empty.db")
    assert main(["label", "--pool", "empty.db", *option]) == 2
    assert "empty.db holds no labels" in capsys.readouterr().err
    assert {file.read_text() for file in (folder / "out").iterdir()} == {"dear to somebody"}
    assert not list(folder.glob("typo*"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--export", "frames.extxyz"], "frames.extxyz: is read, so the export cannot"),
        (["--export", "./link.extxyz"], "link.extxyz: is read"),
        (["--adopt", "other.xyz", "--export", "other.xyz"], "other.xyz: is read"),
        (["--export", "out.traj"], "out.traj: wanted a name of extended XYZ, which ends in .xyz"),
        (["--export", "."], ".: wanted a name of extended XYZ"),
        (["--export", "folder.xyz"], "folder.xyz: wanted the name of a file, got a folder"),
        (["--export", "nowhere/out.xyz"], "nowhere/out.xyz: there is no folder nowhere"),
        (["--export-split", "other.xyz"], "wanted a folder to write to, but other.xyz is none"),
        (["--export-split", "other.xyz/split"], "to write to, but other.xyz is none"),
        (
            ["--export-split", "folder.xyz"],
            "test.extxyz.gz: wanted the name of a file, got a folder",
        ),
        (["--export-split", "new", "--test-share", "1"], "must be between 0 and 1, got 1"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_anything_is_labelled(
    folder, capsys, options, text
):
    (folder / "link.extxyz").symlink_to("frames.extxyz")
    (folder / "folder.xyz" / "test.extxyz.gz").mkdir(parents=True)
    (folder / "other.xyz").write_text((folder / "frames.extxyz").read_text())
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert main(["label", "frames.extxyz", *BACKEND, *options]) == 2
    assert text in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_the_input_of_a_split_is_not_replaced(folder, capsys):
    write("train.extxyz.gz", read("frames.extxyz", ":"), format="extxyz")
    before = (folder / "train.extxyz.gz").read_bytes()
    assert main(["label", "train.extxyz.gz", *BACKEND, "--export-split", "."]) == 2
    assert "train.extxyz.gz: is read" in capsys.readouterr().err
    assert (folder / "train.extxyz.gz").read_bytes() == before and not Path("labels.db").exists()


def test_a_split_makes_its_folder_and_says_when_a_side_is_empty(folder, capsys):
    """The positions of md0 and md1 are 0.674 and 0.123; see test_pool.py."""
    frames = read("frames.extxyz", ":")
    for atoms, name in zip(frames, ("md0", "md0", "md1")):
        atoms.info["trajectory"] = name
    write("frames.extxyz", frames)
    command = ["label", "frames.extxyz", *BACKEND, "--export-split", "new/folder", "--test-share"]
    assert main([*command, "0.1"]) == 2
    assert "test.extxyz.gz would be empty" in capsys.readouterr().err
    assert not (folder / "new").exists() and len(Pool("labels.db")) == 3
    assert main([*command, "0.15"]) == 0
    assert "2 train and 1 test frames written to new/folder" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            "kpts=3",
            "the setting kpts must be three whole numbers of at least 1, as [2, 2, 1], got 3",
        ),
        ("kpts=2x2x1", "the setting kpts must be three whole numbers of at least 1"),
        ("kpts=[2, 2]", "got [2, 2]"),
        ("kpts=[2, 2, 0]", "got [2, 2, 0]"),
        ("kpts=[2.5, 2, 1]", "got [2.5, 2, 1]"),
        ("options=3", "the setting options must be a table, as {maxiter=300}, got 3"),
        ("options={maxiter=many}", "got '{maxiter=many}'"),
        ("options={maxiter='many'}", "maxiter in options must be a whole number, got 'many'"),
        ("total_charge=a", "the setting total_charge must be a finite number, e, got 'a'"),
        ("total_charge=nan", "the setting total_charge must be a finite number, e, got nan"),
        ("total_charge=true", "got True"),
        ("n_unpaired=0.5", "the setting n_unpaired must be a whole number that is not negative"),
        ("cutoff_eV=-5", "the setting cutoff_eV must be a positive number, eV, got -5"),
        ("smearing_eV=cold", "the setting smearing_eV must be a number that is not negative, eV"),
        ("kpoint_spacing=0", "the setting kpoint_spacing must be a positive number, 2π/Å"),
        ("pulay={O='a'}", "the setting pulay must be a table of numbers, as"),
        ("retries={maxiter=5}", "the setting retries must be a list of tables"),
        ("dispersion=[1]", "the setting dispersion must be one of none, d3bj, d3zero, got [1]"),
        ("xc=5", "the setting xc must be a text, got 5"),
    ],
)
def test_a_setting_of_a_wrong_kind(folder, capsys, change, text):
    assert main(["label", "frames.extxyz", *BACKEND, "--set", change]) == 2
    assert text in capsys.readouterr().err
    assert not list(folder.glob("labels.db"))


def test_a_wrong_grid_on_the_command_line(folder, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["label", "frames.extxyz", *BACKEND, "--kpts", "2x2"])
    error = capsys.readouterr().err
    assert "argument --kpts: a k-point grid is written like 2x2x1, got '2x2'" in error


def test_the_help_names_defaults_and_rules(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # else argparse may break a line within a word
    with pytest.raises(SystemExit, match="0"):
        main(["label", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for words in (
        "without this option gpaw",
        "--set cutoff_eV=650 --set 'options={maxiter=300}'",
        "Settings: level, xc, cutoff_eV, ",
        "a hash of trajectory= of a frame, or else of its config_type=, decides",
        'level="PBE-D3BJ PW500 GPAW 26.7" kpts=2x2x1',
    ):
        assert words in text, words


def test_frames_set_aside_give_a_status(folder, capsys):
    arguments = ["label", "frames.extxyz", *BACKEND, "--max-force", "1e-9"]
    assert main(arguments) == 1
    assert "set aside: RejectedLabel: largest force" in capsys.readouterr().out
    assert main([*arguments[:-2], "--retry-failed"]) == 0
    assert "3 labelled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            "2\ncomment\nAr 0 0 0\nAr 0 0 3\n1\n",
            "broken.xyz, frame 1: wanted 1 atoms, the file ends",
        ),
        ("", "broken.xyz holds no frames"),
    ],
)
def test_unreadable_frames(folder, capsys, content, text):
    (folder / "broken.xyz").write_text(content)
    assert main(["label", "broken.xyz", *BACKEND]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere.xyz"], "nowhere.xyz"),
        (["frames.extxyz", "--set", "cutoff"], "--set takes NAME=VALUE"),
        (["frames.extxyz", "--set", "ecut=3"], "unknown setting ecut"),
        (["frames.extxyz", "--parsl", "nowhere.py:config"], "there is no file nowhere.py"),
        (
            ["--adopt", "frames.extxyz"],
            "frame 0 of frames.extxyz has no energy, forces, level, kpts; write what the labels were made with into "
            'the comment line of each frame, as level="PBE-D3BJ PW500 GPAW 26.7" kpts=2x2x1',
        ),
    ],
)
def test_bad_input(folder, capsys, arguments, text):
    assert main(["label", *BACKEND, *arguments]) == 2
    assert text in capsys.readouterr().err


def test_a_code_that_is_not_there_sets_no_frame_aside(folder, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    for command in ("ASE_VASP_COMMAND", "VASP_PP_PATH", "VASP_COMMAND"):
        monkeypatch.delenv(command, raising=False)
    for _ in range(2):
        assert main(["label", "frames.extxyz", "--backend", "vasp", "--pool", "v.db"]) == 2
        assert "the backend vasp is not installed" in capsys.readouterr().err
    pool = Pool(folder / "v.db")
    assert (len(pool), pool.n_set_aside) == (0, 0)


def test_frames_set_aside_before_are_told(folder, capsys):
    frames = read("frames.extxyz", ":")
    frames[1].positions[1] = frames[1].positions[0] + [0.5, 0.0, 0.0]  # forces beyond all limits
    write("close.extxyz", frames)
    command = ["label", "close.extxyz", *BACKEND]
    assert main(command) == 1
    assert "2 labelled, 0 already in the pool, 1 set aside," in capsys.readouterr().out
    assert main(command) == 1
    told = capsys.readouterr().out
    assert "0 labelled, 2 already in the pool, 0 set aside and 1 before" in told
    assert "set aside by earlier runs: 1; --retry-failed tries them again" in told
