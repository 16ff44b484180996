"""Write the requirements of the build, or of one extra, one per line for pip: `build_requirements.py FILE [EXTRA]`."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path


def read_list(text: str, key: str) -> list[str]:
    """The list of strings that `key = [...]` assigns in a TOML text (Python 3.10 has no TOML reader)."""
    found = re.search(rf"^{key} = (\[[^\]]*\])", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"pyproject.toml has no line '{key} = [...]'")
    return ast.literal_eval(found.group(1))


def main() -> None:
    path, *extra = sys.argv[1:]
    sys.stdout.write(
        "\n".join(read_list(Path(path).read_text(), extra[0] if extra else "requires"))
    )


if __name__ == "__main__":
    main()
