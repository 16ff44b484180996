from pathlib import Path

import pytest

from qnep.train.settings import ModelSettings, SettingsError, TrainingSettings, read_settings


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_nep_in_as_gpumd_reads_it(tmp_path):
    text = """
    type 2 Te Pb  # the order of the model file
    charge_mode 2
    cutoff 8 4
    l_max 4 1 0 1
    zbl 2
    use_typewise_cutoff_zbl
    lambda_f 2
    type_weight 1 0.5
    population 60
    generation 20000
    """
    settings = read_settings(write(tmp_path, "nep.in", text))
    assert settings.model.elements == ("Te", "Pb")
    assert settings.model.n_max == (6, 6)
    assert settings.loss.force == 2 and settings.loss.elements == (1.0, 0.5)
    assert [note.split()[0] for note in settings.notes] == ["population", "generation"]
    model = settings.model.make_model()
    assert model.format().splitlines()[:3] == [
        "nep4_zbl_charge2 2 Te Pb",
        "zbl 1 2 0.7",
        "cutoff 8 4 0 0",
    ]
    assert list(model.invariants) == [True, False, True, False, False, False]
    assert settings.training.data == (str(tmp_path / "train.xyz"),)


@pytest.mark.parametrize(
    "line, words",
    [
        ("cutof 8 4", "line 2: unknown keyword 'cutof'"),
        ("cutoff 8 x", "line 2: 'cutoff 8 x'"),
        ("model_type 1", "only potentials"),
        ("prediction 1", "qnep eval"),
        ("version 3", "only version 4"),
        ("type 3 H O", "3 types announced, 2 given"),
    ],
)
def test_wrong_lines_of_nep_in_are_named(tmp_path, line, words):
    path = write(tmp_path, "nep.in", f"type 1 H\n{line}\n")
    with pytest.raises(SettingsError, match=words):
        read_settings(path)


def test_toml(tmp_path):
    text = """
    [model]
    elements = ["H", "O"]
    cutoff = [5.0, 4.0]
    [training]
    data = ["a.xyz", "b.xyz"]
    epochs = 7
    [loss]
    energy = 2
    """
    settings = read_settings(write(tmp_path, "run.toml", text))
    assert settings.training.data == (str(tmp_path / "a.xyz"), str(tmp_path / "b.xyz"))
    assert (settings.training.epochs, settings.loss.energy) == (7, 2)


@pytest.mark.parametrize(
    "text, words",
    [
        ("[modle]", r"unknown table \[modle\]"),
        ("[model]\nelement = ['H']", "unknown key 'element'"),
        ("[model]\nelements = ['H']\nneurons = 'many'", "neurons must be int, got 'many'"),
        ("[model]\nelements = ['H']\ncutoff = [4.0, 8.0]", "0 < angular <= radial"),
        ("[model]\nelements = ['H']\n[training]\noptimizer = 'sgd'", "one of adam, snes"),
        ("model = [", "not TOML"),
    ],
)
def test_wrong_toml_is_named(tmp_path, text, words):
    with pytest.raises(SettingsError, match=words):
        read_settings(write(tmp_path, "run.toml", text))


def test_senseless_values():
    with pytest.raises(SettingsError, match="<= 20"):
        ModelSettings(("H",), cutoff=(100.0, 4.0))
    with pytest.raises(SettingsError, match="same cutoffs for all types"):
        ModelSettings(("H", "O"), charge_mode=1, cutoff=(6.0, 4.0, 5.0, 4.0))
    with pytest.raises(SettingsError, match="validation_fraction"):
        TrainingSettings(validation_fraction=1.0)
