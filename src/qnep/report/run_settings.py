"""What a run was started with: from the files that qnep leaves in its folder, with units, as a reader wants it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LARGEST_SETTINGS = 20000  # bytes of a JSON file of another program that is looked into

# file of our own: groups of settings in it; where there are none, they stand at its top
_GROUPS = {
    "md.json": (),  # qnep md
    "state.json": ("protocol",),  # qnep deposit
    "barrier.json": ("dynamics",),  # qnep barrier
    "protocol.json": ("protocol",),  # qnep electrode
}
_BESIDE_GROUPS = {"barrier.json": ("walkers", "pieces"), "protocol.json": ("model", "metal")}
_UNITS = {
    "temperature": "K", "final_temperature": "K", "pressure": "bar", "timestep": "fs", "charge": "e",
    "arrival_height": "Å", "release_height": "Å", "spring": "eV/Å²", "hill_height": "eV",
    "hill_width": "Å, or neighbours",
}  # fmt: skip
_KNOWN_FROM_MODEL = {"has_free_energy_model"}
_UNITS_IN_NAMES = {"_per_ps": "1/ps", "_fs": "fs", "_ps": "ps", "_K": "K", "_V": "V"}


def read_settings(path: Path) -> dict[str, str]:
    """Return {name: value with its unit} of a JSON file: all of the protocol of our own, plain values of others'."""
    is_ours = path.name in _GROUPS
    if not is_ours and path.stat().st_size > LARGEST_SETTINGS:
        return {}
    try:
        data = json.loads(path.read_text())
    except ValueError:
        return {}
    if not isinstance(data, dict):
        return {}
    if not is_ours:
        return {k: str(v) for k, v in data.items() if _is_plain(v) and v != ""}
    groups = _GROUPS[path.name]
    settings = data if not groups else {}
    for group in groups:
        found = data.get(group)
        settings |= found if isinstance(found, dict) else {}
    if settings:
        settings |= {k: data[k] for k in _BESIDE_GROUPS.get(path.name, ()) if k in data}
    told = dict(_told(name, value) for name, value in settings.items() if _is_told(name, value))
    return told | _force_field(data)


def named_models(facts: dict[str, str]) -> list[Path]:
    """Return the files that the force field or the model of some settings name."""
    words = f"{facts.get('force field', '')} {facts.get('model', '')}".split()
    return [path for path in map(Path, words) if path.is_file()]


def _force_field(data: dict[str, Any]) -> dict[str, str]:
    field = data.get("force_field")
    return {"force field": field["commands"]} if isinstance(field, dict) else {}


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool))


def _is_told(name: str, value: Any) -> bool:
    """Whether a value says something in a line: lists of words do, and of numbers with a unit, but no indices."""
    if name in _KNOWN_FROM_MODEL:
        return False
    if isinstance(value, list):
        has_unit = name.endswith(tuple(_UNITS_IN_NAMES))
        return bool(value) and (has_unit or all(isinstance(one, str) for one in value))
    return _is_plain(value) and value != ""


def _told(name: str, value: Any) -> tuple[str, str]:
    unit = _UNITS.get(name, "")
    for ending, one in _UNITS_IN_NAMES.items():
        if name.endswith(ending):
            name, unit = name.removesuffix(ending), one
            break
    values = value if isinstance(value, list) else [value]
    text = " ".join(_word(one) for one in values)
    return name.removeprefix("n_").replace("_", " "), f"{text} {unit}".rstrip()


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
