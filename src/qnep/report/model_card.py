"""What a model file says about itself, and the card beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path

_LINES = 12


def is_model(path: Path) -> bool:
    """Is this a GPUMD ``nep.txt``? Its first word begins with "nep" and its second is a number."""
    try:
        with path.open(errors="replace") as file:
            words = file.readline().split()
    except OSError:
        return False
    return len(words) >= 3 and words[0].startswith("nep") and words[1].isdigit()


def model_facts(path: Path) -> dict[str, str]:
    """Return the header of a model file as {keyword: values}, with its name, size and checksum."""
    with path.open(errors="replace") as file:
        lines = [file.readline().split() for _ in range(_LINES)]
    facts = {
        "file": path.name,
        "kind": lines[0][0],
        "elements": " ".join(lines[0][2:]),
    }
    for words in lines[1:]:
        if not words or not words[0][0].isalpha():
            break
        facts[words[0]] = " ".join(words[1:])
    facts["size"] = f"{path.stat().st_size / 1e3:.0f} kB"
    facts["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return facts


def card_text(path: Path) -> str | None:
    """Return the model card that lies beside a model; None without one.

    NAME.md or NAME_card.md, model_card.md of `qnep train`, or README.md as beside the shipped models.
    """
    for name in (f"{path.stem}.md", f"{path.stem}_card.md", "model_card.md", "README.md"):
        card = path.with_name(name)
        if card.is_file():
            return card.read_text(errors="replace")
    return None
