#!/usr/bin/env python3
"""Compile with nvcc what includes Kokkos, and everything else with the host's compiler, in a tenth of the time.

Stands in the place of nvcc_wrapper as CMAKE_CXX_COMPILER. QNEP_NVCC_WRAPPER names the nvcc_wrapper that is
called for sources from which a header of Kokkos can be reached by includes, and for whatever is not a compilation.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.M)
# kokkos_cuda13.h, which the flags of the build include first, is for nvcc alone.
NVCC_FLAGS = re.compile(
    r"^(-arch=.*|--?(expt-)?extended-lambda|--?expt-relaxed-constexpr|--?Wext-lambda.*|-Xptxas=.*|-Xcudafe=.*)$"
)
NVCC_FLAGS_WITH_VALUE = ("-include", "-Xcudafe", "-Xptxas")


def folders(arguments: list[str]) -> list[Path]:
    """Where headers are looked for."""
    found = []
    for k, argument in enumerate(arguments):
        if argument == "-I":
            found.append(Path(arguments[k + 1]))
        elif argument.startswith("-I"):
            found.append(Path(argument[2:]))
        elif argument == "-isystem":
            found.append(Path(arguments[k + 1]))
        elif argument.startswith("-isystem"):
            found.append(Path(argument[8:]))
    return found


def reaches_kokkos(source: Path, search: list[Path]) -> bool:
    """Whether an include, of whatever condition, leads from the source to Kokkos."""
    waiting, seen = [source], set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for quote, name in INCLUDE.findall(path.read_text(errors="replace")):
            if name.rpartition("/")[2].startswith("Kokkos_") or name.startswith("desul/"):
                return True
            # Angle brackets: headers of the system and of libraries that know nothing of Kokkos.
            if quote == '"':
                places = [path.parent / name, *(folder / name for folder in search)]
                waiting += [place for place in places if place.is_file()][:1]
    return False


def without_flags_of_nvcc(arguments: list[str]) -> list[str]:
    """The flags that the host's compiler understands, of those of optimization the last of each kind.

    So the commands are those of a build for the processor, and ccache knows their results.
    """
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in NVCC_FLAGS_WITH_VALUE:
            next(rest)
        elif not NVCC_FLAGS.match(argument):
            beginning = "-O" if argument.startswith("-O") else "-DNDEBUG"
            if argument.startswith(beginning):
                kept = [old for old in kept if not old.startswith(beginning)]
            kept.append(argument)
    return kept


def command(arguments: list[str]) -> list[str]:
    """What to run in the place of this program."""
    sources = [a for a in arguments if a.endswith((".cpp", ".cc", ".cxx"))]
    if "-c" in arguments and len(sources) == 1:
        source = Path(sources[0])
        # CMake's probes of the compiler are to see nvcc.
        is_probe = "CMakeScratch" in str(source.resolve()) or "CompilerIdCXX" in str(source)
        if source.is_file() and not is_probe and not reaches_kokkos(source, folders(arguments)):
            host = os.environ.get("NVCC_WRAPPER_DEFAULT_COMPILER") or shutil.which("c++") or "g++"
            cache = ["ccache"] if shutil.which("ccache") else []
            return [*cache, host, *without_flags_of_nvcc(arguments)]
    return [os.environ["QNEP_NVCC_WRAPPER"], *arguments]


if __name__ == "__main__":
    chosen = command(sys.argv[1:])
    os.execvp(chosen[0], chosen)
