"""`qnep train` on a few small structures: what it refuses, and what it leaves alone."""

from pathlib import Path

import pytest

from qnep.cli import main
from qnep.model import Model
from qnep.report.model_card import card_text

CONFIG = """
[model]
elements = ["O", "H"]
cutoff = [4.0, 3.0]
n_max = [3, 2]
basis_size = [4, 4]
l_max = [2]
neurons = 5
[training]
data = "train.xyz"
epochs = 1
device = "cpu"
"""


@pytest.fixture
def config(data_file) -> Path:
    path = data_file.with_name("run.toml")
    path.write_text(CONFIG)
    return path


def train(config: Path, *options: str) -> int:
    return main(["train", str(config), "--quiet", *options])


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("members", ["1", "2"])
def test_a_finished_run_is_not_replaced(config, members, capsys):
    assert train(config, "--members", members) == 0
    before = contents(config.parent)
    assert train(config, "--members", members, "--epochs", "2") == 2
    assert "holds a training already: --resume, or another output" in capsys.readouterr().err
    assert contents(config.parent) == before
    assert train(config, "--members", members, "--epochs", "2", "--resume") == 0
    assert contents(config.parent) != before


@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_the_model_to_start_from_is_not_replaced(config, options, capsys):
    assert train(config, "--output", str(config.parent / "first")) == 0
    start = config.with_name("nep.txt")
    start.write_bytes((config.parent / "first" / "nep.txt").read_bytes())
    before = contents(config.parent)
    assert train(config, "--fine-tune", str(start), *options) == 2
    assert "would replace" in capsys.readouterr().err
    assert contents(config.parent) == before
    tuned = config.parent / "tuned"
    assert train(config, "--fine-tune", str(start), "--output", str(tuned), *options) == 0
    assert start.read_bytes() == before[start] != (tuned / "nep.txt").read_bytes()


def test_the_card_leaves_the_readme_alone_and_is_found(config):
    readme = config.with_name("README.md")
    readme.write_text("my notes")
    assert train(config) == 0
    assert readme.read_text() == "my notes"
    assert card_text(config.with_name("nep.txt")) == config.with_name("model_card.md").read_text()


def test_no_epochs_write_a_model(config):
    assert train(config, "--epochs", "0") == 0
    assert Model.read(str(config.with_name("nep.txt"))).elements == ["O", "H"]


def test_the_same_run_goes_on_from_another_folder(config, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(config.parent)
    assert main(["train", "run.toml", "--quiet"]) == 0
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert train(config, "--epochs", "2", "--resume") == 0


def test_elements_are_those_of_the_model_to_start_from(config, capsys):
    """Without [model]: for the check of the data and for the training."""
    assert train(config, "--output", str(config.parent / "first")) == 0
    config.write_text(CONFIG[CONFIG.index("[training]") :] + 'fine_tune = "first/nep.txt"\n')
    assert train(config, "--check") == 0
    assert "atoms of each element  O 24, H 48" in capsys.readouterr().out
    assert train(config, "--output", str(config.parent / "tuned")) == 0


@pytest.mark.parametrize(
    "options, words",
    [
        (["--batch-size", "-1"], "batch_size must be a number of at least 0, got -1"),
        (["--learning-rate", "-1"], "learning_rate must be positive, got -1.0"),
        (["--patience", "5"], "patience needs a validation set"),
        (["--learning-rate", "1e-6"], "must not rise, from 1e-06 to final_learning_rate = 1e-05"),
    ],
)
def test_wrong_options_are_named(config, options, words, capsys):
    assert train(config, *options) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "line, words",
    [
        ("bootstrap = true", "bootstrap needs a committee: give members = 2 or more"),
        ("new_weight = 2.0", "new_weight is against replayed structures: give replay"),
        ("n_replay = 100", "n_replay needs files of older structures: give replay"),
    ],
)
def test_settings_without_meaning_are_named(config, line, words, capsys):
    config.write_text(CONFIG + line + "\n")
    assert train(config) == 2
    assert words in capsys.readouterr().err
