"""The command `qnep label`."""

from __future__ import annotations

import pytest
from ase.io import read, write

from qnep.cli import main

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


def test_frames_set_aside_give_a_status(folder, capsys):
    arguments = ["label", "frames.extxyz", *BACKEND, "--max-force", "1e-9"]
    assert main(arguments) == 1
    assert "set aside: RejectedLabel: largest force" in capsys.readouterr().out
    assert main([*arguments[:-2], "--retry-failed"]) == 0
    assert "3 labelled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("2\ncomment\nAr 0 0 0\nAr 0 0 3\n1\n", "cannot read broken.xyz after 1 good frames"),
        ("", "broken.xyz"),
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
            "frame 0 of frames.extxyz has no energy, forces, level, kpts",
        ),
    ],
)
def test_bad_input(folder, capsys, arguments, text):
    assert main(["label", *BACKEND, *arguments]) == 2
    assert text in capsys.readouterr().err
