"""What the policies do at the ends of runs and windows, and with frames that the reference refuses for good."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qnep.learn import make_learner, read_configuration
from qnep.learn.policies import Alternating, InterfaceReactor
from qnep.learn.reference import FrameRefused
from qnep.learn.state import read_decisions


class Record:
    """Stands in for the learner: a step, what the policy remembers, and what is recorded."""

    def __init__(self, step: int, **memory: int) -> None:
        self.dynamics = SimpleNamespace(step=step)
        self.state = SimpleNamespace(policy=memory)
        self.actions: list[str] = []

    def record(self, action: str, why: str, findings: object, **details: object) -> None:
        self.actions.append(action)


@pytest.mark.parametrize(
    ("step", "n_left", "action"), [(0, 40, "window"), (90, 10, "window"), (100, 0, "label")]
)
def test_a_window_of_haml_ends_with_the_run(step, n_left, action):
    learner = Record(step)
    look = SimpleNamespace(findings=[], step=step)
    Alternating(n_steps=100, window=40)._open_window(learner, look, "the gate breaks", 0.1)
    assert learner.state.policy["window_left"] == n_left and learner.actions == [action]


def test_runs_of_interface_reactor_grow_by_a_step_at_least():
    """round(1 · 1.4) = 1 would be asked for again and again."""
    learner = Record(1, length=1, attempt=1)
    policy = InterfaceReactor(n_steps=10, first_steps=1, growth=1.4)
    lengths = []
    for _ in range(5):
        policy._lengthen(learner)
        lengths.append(learner.state.policy["length"])
    assert lengths == [2, 3, 4, 6, 8]
    with pytest.raises(ValueError, match="growth of the policy must be a finite number above 1"):
        InterfaceReactor(growth=float("inf"))


@pytest.mark.parametrize("policy", ["haml", "interface-reactor"])
@pytest.mark.parametrize("refused", [1, 2])
def test_a_refused_frame_is_an_alarm(make_configuration, policy, refused):
    """The first label of the exploration, which opens a window, or the second, within it; the run goes on."""
    path = make_configuration(policy)
    learner = make_learner(read_configuration(path), resume=False)
    label, n_calls = learner.reference.label, 0

    def choosy(atoms, *names):
        nonlocal n_calls
        n_calls += bool(learner.state.models)
        if n_calls == refused:
            n_calls += 1
            raise FrameRefused("largest force 99.0 eV/Å")
        return label(atoms, *names)

    learner.reference.label = choosy
    assert learner.run().is_done
    findings = [
        (decision["action"], finding["note"], decision["failed_at"])
        for decision in read_decisions(path.parent / "run")
        for finding in decision["findings"]
        if finding["gate"] == "reference"
    ]
    assert len(findings) == 1 and findings[0][1:] == ("largest force 99.0 eV/Å", findings[0][2])
    opens_window = policy == "haml" and refused == 1  # from the last sound step
    assert findings[0][0] == ("window" if opens_window else "return") and findings[0][2] > 0
