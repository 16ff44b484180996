"""Machine-learned and reference dynamics in turns, switched by a gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from qnep.learn.learner import Learner, Look
from qnep.learn.policies.window import (
    check_counts,
    continue_window,
    finish,
    remember_sound,
    return_to_sound,
)


@dataclass(frozen=True)
class Alternating:
    """The models drive until the gate breaks; then the reference drives through a window, and the models are trained.

    Parameters
    ----------
    n_steps : length of the run, both drivers together.
    window : steps of the reference after a break.
    keep_every : steps between two frames of the window that may be trained on; those of which the similarity screen
        knows everything are dropped.
    max_returns : times that the run may go back after an alarm without getting any further.

    References
    ----------
    HAML, npj Comput. Mater. (2025), doi:10.1038/s41524-025-01747-7: the scheme. Window, filter and break value here
    are ours.
    """

    n_steps: int = 10000
    window: int = 20
    keep_every: int = 4
    max_returns: int = 10
    name: ClassVar[str] = "haml"

    def __post_init__(self) -> None:
        check_counts(self)

    def begin(self, learner: Learner) -> dict[str, Any]:
        """See `Policy`."""
        sound = learner.dynamics.snapshot().as_dict()
        return {"sound": sound, "n_returns": 0, "window_left": 0, "must_train": False}

    def advance(self, learner: Learner) -> None:
        """See `Policy`."""
        memory = learner.state.policy
        if memory["must_train"]:
            memory["must_train"] = False
            if learner.n_untrained:
                learner.train(f"{learner.n_untrained} labels of a window")
        elif learner.dynamics.step >= self.n_steps:
            finish(learner, f"{self.n_steps} steps are done")
        elif memory["window_left"] > 0:
            continue_window(learner, self.keep_every)
            learner.save()
        else:
            self._look(learner)
            learner.save()

    def _look(self, learner: Learner) -> None:
        look = learner.advance_and_look(self.n_steps)
        if look.alarm:
            return_to_sound(
                learner, look, self.max_returns, "lengthen the window, or enlarge the start set"
            )
            self._open_window(learner, look, "alarm: back to the last sound step")
        elif look.is_uncertain:
            self._open_window(learner, look, "the gate breaks")
        else:
            assert look.observation is not None
            details = {}
            if learner.writes_frame:
                distances = learner.distance_from_start(look.observation.atoms)
                details["distance_from_start"] = distances
            learner.record("accept", "no gate objects", look.findings, **details)
            remember_sound(learner)

    def _open_window(self, learner: Learner, look: Look, why: str) -> None:
        error = learner.label(learner.look())
        learner.state.policy["window_left"] = self.window
        learner.record(
            "window", f"{why}: {self.window} steps of the reference", look.findings, error=error
        )
