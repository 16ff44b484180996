"""What `aofl` decides, on looks that are written down here instead of calculated."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qnep.learn.finding import Finding
from qnep.learn.policies.aofl import OnTheFly


class Script:
    """Stands in for the learner: a look every 10 steps, of ``accept``, ``new`` or ``known`` (both uncertain)."""

    def __init__(self, *looks: str) -> None:
        self.looks = list(looks)
        self.actions: list[str] = []
        self.n_untrained = 0
        self.state = SimpleNamespace(policy={}, is_done=False)
        self.dynamics = SimpleNamespace(step=0, snapshot=lambda: self)

    def as_dict(self) -> dict:
        return {"step": self.dynamics.step}

    def advance_and_look(self, end: int) -> SimpleNamespace:
        self.dynamics.step += 10
        self.now = self.looks.pop(0)
        return SimpleNamespace(
            alarm=None,
            is_uncertain=self.now != "accept",
            observation=self,
            uncertainty=SimpleNamespace(atoms=(0,)),
            findings=[],
        )

    def is_known(self, observation: object, atoms: object) -> Finding:
        return Finding("similarity", 0.0, 0.1, "", self.now == "new")

    def label(self, observation: object) -> float:
        self.n_untrained += 1
        return 0.0

    def train(self, why: str) -> None:
        self.actions.append(f"train {self.n_untrained}")
        self.n_untrained = 0

    def record(self, action: str, why: str, findings: object, **details: object) -> None:
        self.actions.append(action)

    def save(self) -> None:
        pass


@pytest.mark.parametrize(
    ("looks", "actions"),
    [
        # Like a label that waits: without a training the rest of the run would be skipped.
        ("new known known accept", "label,skip,train 1,skip,accept,done"),
        # All that is like it is trained on: nothing to train.
        ("known accept", "skip,accept,done"),
        # As many as are waited for, and one that is left at the end.
        ("new new new accept", "label,label,train 2,label,accept,train 1,done"),
        ("new", "label,train 1,done"),
    ],
)
def test_no_label_is_left_untrained(looks, actions):
    script = Script(*looks.split())
    policy = OnTheFly(n_steps=10 * len(script.looks), retrain_after=2)
    script.state.policy = policy.begin(script)
    while not script.state.is_done:
        policy.advance(script)
    assert script.actions == actions.split(",")
    assert script.n_untrained == 0
