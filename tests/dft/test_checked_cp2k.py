"""CP2K that goes on without a converged density: ASE's calculator with a stand-in for the program."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest

from qnep.dft import NotConverged, get_backend

# As CP2K 2023.1 prints it; other versions have other words around.
WARNING = " *** WARNING in qs_scf.F:542 :: SCF run NOT converged ***\n"
ABORT = " *  [ABORT] SCF run NOT converged. To continue the calculation regardless, please set\n"
CRASH = " *  [ABORT] out of memory\n"
GOOD = "  *** SCF run converged in    12 steps ***\n"


class Shell:
    """Speaks as cp2k_shell: zero energy and forces; `outcomes` are written to the log, one by one."""

    outcomes: deque[str]

    def __init__(self, command: str, debug: bool) -> None:
        self.version = 7.0
        self.answers: deque[str] = deque()

    def send(self, line: str) -> None:
        word, *rest = line.split() or [""]
        if word == "LOAD":
            self.log = Path(rest[1])
            self.answers.append("1")
        elif word == "EVAL_EF":
            outcome = self.outcomes.popleft()
            with self.log.open("a") as log:
                log.write(outcome)
            if outcome in (ABORT, CRASH):
                raise BrokenPipeError("the shell has gone")
        self.answers.extend(
            {
                "SET_POS": ["0.0"],  # the largest move
                "GET_E": ["-1.0"],
                "GET_F": ["9", *["0 0 0"] * 3],
                "GET_STRESS": [" ".join(["0"] * 9)],
            }.get(word, [])
        )

    def recv(self) -> str:
        return self.answers.popleft()

    def expect(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def shell(monkeypatch):
    monkeypatch.setattr("ase.calculators.cp2k.Cp2kShell", Shell)
    monkeypatch.setattr("qnep.dft.backends._cp2k_program", lambda: "sh")
    return Shell


def test_a_density_that_did_not_converge_is_no_label(water, tmp_path, shell):
    """Only what the last calculation wrote counts; a new calculator does not read the log of the one before."""
    shell.outcomes = deque([GOOD, WARNING, GOOD, WARNING, GOOD])
    water.calc = get_backend("cp2k", tmp_path, dispersion="none", kpts=(1, 1, 1))
    for has_converged in (True, False, True, False):
        water.positions[0, 0] += 0.01
        if has_converged:
            assert water.get_potential_energy() == -1.0
        else:
            with pytest.raises(NotConverged, match="CheckedCP2K did not converge"):
                water.get_potential_energy()
            assert not water.calc.results  # nor handed out when asked again
    water.calc = get_backend("cp2k", tmp_path, dispersion="none", kpts=(1, 1, 1))
    assert water.get_potential_energy() == -1.0
    assert not shell.outcomes


@pytest.mark.parametrize(("outcome", "error"), [(ABORT, NotConverged), (CRASH, BrokenPipeError)])
def test_an_abort_says_whether_the_density_did_not_converge(water, tmp_path, shell, outcome, error):
    """As from CP2K 2024 on; another abort may be that of a broken installation."""
    shell.outcomes = deque([outcome])
    water.calc = get_backend("cp2k", tmp_path, dispersion="none", kpts=(1, 1, 1))
    with pytest.raises(error, match="the shell has gone"):
        water.get_potential_energy()
