"""The tables of keys in docs/learning.md and docs/training.md against the settings themselves."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from qnep.learn.exploration import LammpsSettings
from qnep.learn.learner import Start
from qnep.learn.policies import POLICIES
from qnep.learn.settings import (
    KEYS,
    KEYS_OF_THE_RUN,
    TABLES,
    THRESHOLDS,
    DynamicsSettings,
    GateSettings,
    ReferenceSettings,
    TrainerSettings,
)
from qnep.train.settings import LossWeights, ModelSettings, TrainingSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCS = Path(__file__).parents[2] / "docs"
FILE_OF_TABLE = {"model": "training.md", "training": "training.md", "loss": "training.md"}

OBJECTS = {
    "dynamics": DynamicsSettings,
    "exploration": LammpsSettings,
    "start": Start,
    "reference": ReferenceSettings,
    "gates": GateSettings,
    "trainer": TrainerSettings,
    "model": ModelSettings,
    "training": TrainingSettings,
    "loss": LossWeights,
    **{f"options {name}": policy for name, policy in POLICIES.items()},
}
OF_THE_EDGE = {"exploration": {"engine": "ase"}, "reference": {"settings": {}}}
"""Keys that are read before the object of their table is made."""


def documented(file: str, header: str) -> dict[str, str]:
    """Return key -> text of its default, of the table with a header."""
    lines = iter((DOCS / file).read_text().splitlines())
    assert any(line == f"| {header} | default | what |" for line in lines), header
    next(lines)
    rows = {}
    for line in lines:
        row = re.match(r"\| `(\w+)` \| (.*?) \| ", line)
        if row is None:
            break
        assert row[1] not in rows, row[1]
        rows[row[1]] = row[2]
    return rows


def defaults(kind: type) -> dict[str, Any]:
    return {
        item.name: "required" if item.default is dataclasses.MISSING else item.default
        for item in dataclasses.fields(kind)
    }


def value_of(text: str) -> Any:
    return text if text == "required" else tomllib.loads(f"value = {text.strip('`')}")["value"]


@pytest.mark.parametrize("name", OBJECTS)
def test_every_key_is_documented_with_its_default(name):
    table, _, policy = name.partition(" ")
    header = f"key of `[{table}]`" + (f" with `{policy}`" if policy else "")
    said = {
        key: value_of(text)
        for key, text in documented(FILE_OF_TABLE.get(table, "learning.md"), header).items()
    }
    meant = {**OF_THE_EDGE.get(table, {}), **defaults(OBJECTS[name])}
    meant = {key: list(v) if isinstance(v, tuple) else v for key, v in meant.items()}
    assert said == meant
    assert {key: type(v) for key, v in said.items()} == {key: type(v) for key, v in meant.items()}


def test_no_table_is_forgotten():
    assert {name.split()[0] for name in OBJECTS} == {*TABLES, "model", "training", "loss"}
    rows = documented("learning.md", "key")
    assert set(rows) == set(KEYS)
    assert {key for key, text in rows.items() if text == "required"} == {"policy", "structure"}
    assert value_of(rows["seed"]) == 0


def test_what_the_text_says_about_the_keys():
    text = " ".join((DOCS / "learning.md").read_text().split())
    for numbers in THRESHOLDS.values():
        assert f"`{list(numbers)}`" in text
    refused = re.search(r"- ([^:]*) of `\[training\]` are refused", text)
    assert refused is not None
    assert set(re.findall(r"`(\w+)`", refused[1])) == set(KEYS_OF_THE_RUN)
