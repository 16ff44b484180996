from pathlib import Path

import pytest

from qnep.train.settings import (
    ModelSettings,
    SettingsError,
    TrainingSettings,
    read_settings,
    settings_of_model,
)

H = "[model]\nelements = ['H']\n"
NO_TERMS = "energy = 0\nforce = 0\nvirial = 0\ncharge = 0\nborn = 0\ndipole = 0\n"


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
        ("n_max 4", r"nep.in: n_max must be 2 numbers"),
        ("type_weight 1 2", "nep.in: elements of the loss must be 1 numbers"),
        ("lambda_f -1", "nep.in: force must be a number of at least 0"),
        ("lambda_f 1 2", "line 2: 'lambda_f 1 2': wanted 1 value, got 2"),
        ("lambda_e", "line 2: 'lambda_e': wanted 1 value, got 0"),
        ("zbl 2 1", "line 2: 'zbl 2 1': wanted 1 value, got 2"),
        ("version 4 4", "wanted 1 value, got 2"),
        ("neuron 30 20", "line 2: 'neuron 30 20': only one hidden layer can be trained here"),
        ("neuron 30 0 1", "wanted 1 to 2 values, got 3"),
        ("charge_mode 2 1", "the flip is for a nep.restart"),
        ("fine_tune a b 0", "the coefficients of the descriptors cannot be frozen here"),
        ("fine_tune a b 1 c", "wanted 1 to 3 values, got 4"),
        ("use_typewise_cutoff_zbl 0.7 1", "wanted 1 value, got 2"),
        ("use_typewise_cutoff_zbl", "nep.in: zbl_typewise_factor needs zbl"),
        ("vdw 1", "line 2: 'vdw 1': dispersion cannot be trained here"),
        ("charge_vdw 1", "dispersion cannot be trained here"),
        ("atomic_v 1", "atomic tensors cannot be trained here"),
    ],
)
def test_wrong_lines_of_nep_in_are_named(tmp_path, line, words):
    path = write(tmp_path, "nep.in", f"type 1 H\n{line}\n")
    with pytest.raises(SettingsError, match=words):
        read_settings(path)


def test_zeros_of_nep_in_do_nothing(tmp_path):
    """Keywords of GPUMD in the position in which they change nothing."""
    plain = read_settings(write(tmp_path, "nep.in", "type 1 H\n"))
    text = "type 1 H\nneuron 30 0\ncharge_mode 0 0\nvdw 0\ncharge_vdw 0\natomic_v 0\n"
    assert read_settings(write(tmp_path, "nep.in", text)) == plain


def test_keywords_of_gnep(tmp_path):
    text = "type 1 H\nenergy_shift 0\nweight_decay 0.1\nlr_cos_restart 1 10\n"
    settings = read_settings(write(tmp_path, "nep.in", text))
    assert (settings.training.energy_shift, settings.training.weight_decay) == (False, 0.1)
    assert [note.split()[0] for note in settings.notes] == ["lr_cos_restart"]


def test_fine_tuning_as_gpumd_writes_it(tmp_path, model_file):
    path = write(tmp_path, "nep.in", "fine_tune nep.txt nep.restart 1\n")
    settings = read_settings(path)
    assert settings.training.fine_tune == str(model_file)
    assert settings.notes == ("nep.restart is not read: it belongs to the evolution strategy",)


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
        ("", r"\[model\]: the key 'elements' is missing"),
        ("training = 5", r"\[training\] must be a table, got 5"),
        ("[model]\nelements = ['Cu', 1]", r"elements must be a list of str, got \['Cu', 1\]"),
        ("[model]\nelements = ['H']\nl_max = [2.0]", r"l_max must be a list of int, got \[2.0\]"),
        ("[model]\nelements = ['H']\nl_max = []", r"l_max must be the largest l, .* got \[\]"),
        (
            "[model]\nelements = ['H']\nl_max = [4, 1, 1, 1, 1, 1, 1, 1]",
            r"l_max .* up to 6 flags, got \[4, 1, 1, 1, 1, 1, 1, 1\]",
        ),
        ("[model]\nelements = ['H']\nn_max = [4]", r"n_max must be 2 numbers, .* got \[4\]"),
        ("[model]\nelements = ['H']\nbasis_size = [4, -1]", r"basis_size .* got \[4, -1\]"),
        ("[model]\nelements = ['H']\nneurons = 0", "neurons must be a number of at least 1, got 0"),
        (
            "[training]\ndata = ['a.xyz', 3]",
            r"\[training\]: data must be a list of str, got \['a.xyz', 3\]",
        ),
        ("[training]\npopulation = 0", "population must be a number of at least 2, got 0"),
        ("[training]\nbatch_size = -1", "batch_size must be a number of at least 0, got -1"),
        ("[training]\nlearning_rate = -0.1", "learning_rate must be positive, got -0.1"),
        ("[training]\nlearning_rate = nan", "learning_rate must be positive, got nan"),
        ("[training]\nweight_decay = inf", "weight_decay must be a number .* got inf"),
        ("[training]\naveraging = 1.0", "averaging must be at least 0 and below 1, got 1.0"),
        ("[training]\nmemory_GB = -1", "memory_GB must not be negative, got -1"),
        (H + "[loss]\nforce = -1", r"\[loss\]: force must be a number of at least 0, got -1"),
        (H + "[loss]\nelements = [1, 2]", r"elements of the loss must be 1 numbers, .* got 2"),
        (H + "[training]\ninitial_charges = [0.5]", "initial_charges needs a model with charges"),
        (
            H + "charge_mode = 2\n[training]\ninitial_charges = [0.5, 1]",
            r"run.toml: initial_charges must be 1 numbers, got 2",
        ),
        (H + "[loss]\nelements = [0]", r"\[loss\]: elements must hold a positive number"),
        (H + "[loss]\nelements = ['1']", r"elements must be a list of float, got \['1'\]"),
        (H + "[loss]\n" + NO_TERMS, "one of energy, .* must be positive, got 0 for all"),
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


@pytest.mark.parametrize(
    "options, words",
    [
        ({"zbl": 4.1}, "beyond the angular cutoff, 4 Å, where the energy would jump, got 4.1 Å"),
        ({"zbl_pairs": (0.5, 4.2, *[1.0] * 8)}, "beyond the angular cutoff, 4 Å, .* got 4.2 Å"),
        ({"zbl": 2.0, "zbl_inner": 2.0}, "zbl_inner must be below zbl, 2 Å, got 2"),
        ({"zbl_typewise_factor": 0.7}, "zbl_typewise_factor needs zbl"),
        ({"zbl_from_data": True}, "zbl_from_data needs zbl"),
        ({"zbl_inner": 1.0}, "zbl_inner needs zbl"),
        ({"zbl": 2.0, "zbl_inner": 1.0, "zbl_from_data": True}, "zbl_inner is for the universal"),
    ],
)
def test_senseless_repulsion(options, words):
    with pytest.raises(SettingsError, match=words):
        ModelSettings(("H",), **options)


@pytest.fixture
def model_file(tmp_path) -> Path:
    """A model of O and H with other settings than the defaults."""
    model = ModelSettings(("O", "H"), cutoff=(5.0, 4.0), n_max=(3, 2), l_max=(2, 1), neurons=5)
    return write(tmp_path, "nep.txt", model.make_model().format())


def test_a_model_to_start_from_has_the_settings(tmp_path, model_file):
    for text in ("", "[model]\nl_max = [2, 2]\ncutoff = [5, 4, 5, 4]\nneurons = 5\n"):
        path = write(tmp_path, "run.toml", text + "[training]\nfine_tune = 'nep.txt'\n")
        settings = read_settings(path)
        assert settings.model.elements == ("O", "H") and settings.model.n_max == (3, 2)
        assert settings.training.fine_tune == str(model_file)
    path = write(tmp_path, "nep.in", "neuron 5\n")
    assert read_settings(path, fine_tune=str(model_file)).model == settings.model


@pytest.mark.parametrize("factor", [0.0, 0.7])
def test_the_radii_of_zbl_are_those_of_the_model_to_start_from(factor):
    """A header of `zbl 1 2.5`: not every code writes half of the outer radius."""
    model = ModelSettings(("O", "H"), zbl=2.5, zbl_typewise_factor=factor).make_model()
    assert model.zbl_inner_cutoff == 1.25
    model.zbl_inner_cutoff = 1.0
    again = settings_of_model(model).make_model()
    assert again.format().splitlines()[1] == model.format().splitlines()[1]


@pytest.mark.parametrize(
    "line, words",
    [
        ("elements = ['H', 'O']", r"elements must be that of .*nep.txt, \('O', 'H'\), got"),
        ("neurons = 6", "neurons must be that of .*nep.txt, 5, got 6"),
        ("l_max = [2]", "l_max must be that of"),
        ("cutoff = [5.0, 3.9]", "cutoff must be that of"),
        ("zbl = 2.0", "zbl must be that of .*nep.txt, 0.0, got 2.0"),
        ("zbl = 2.0\nzbl_from_data = true", "zbl must be that of"),
        ("charge_mode = 2", "charge_mode must be that of"),
    ],
)
def test_contradictions_to_the_model_to_start_from_are_named(tmp_path, model_file, line, words):
    text = f"[model]\n{line}\n[training]\nfine_tune = 'nep.txt'\n"
    with pytest.raises(SettingsError, match=words):
        read_settings(write(tmp_path, "run.toml", text))


def test_repulsion_that_was_made_from_data_is_that_of_the_file(tmp_path):
    """The settings of the first stage may be repeated, as in models/na-sei-6/train_2.toml."""
    model = ModelSettings(("H",), zbl_pairs=(0.5, 1.0, *[1.0] * 8))
    write(tmp_path, "nep.txt", model.make_model().format())
    text = H + "zbl = 2.5\nzbl_from_data = true\n[training]\nfine_tune = 'nep.txt'\n"
    assert read_settings(write(tmp_path, "run.toml", text)).model.zbl_pairs == model.zbl_pairs
    pairs = f"zbl_pairs = {[0.6, *model.zbl_pairs[1:]]}\n"
    text = H + pairs + "[training]\nfine_tune = 'nep.txt'\n"
    with pytest.raises(SettingsError, match="zbl_pairs must be that of"):
        read_settings(write(tmp_path, "run.toml", text))
