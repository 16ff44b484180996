"""Machine-learned and reference dynamics in turns, switched by a gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from qnep.learn.learner import Learner, Look
from qnep.learn.policies.window import (
    NOT_CONVERGED_EITHER,
    check_counts,
    continue_window,
    finish,
    label_or_alarm,
    label_sound,
    remember_sound,
    return_to_sound,
)

REMEDY = "lengthen the window, or enlarge the start set"


@dataclass(frozen=True)
class Alternating:
    """The models drive until the gate breaks; then the reference drives through a window, and the models are trained.

    Parameters
    ----------
    n_steps : length of the run, both drivers together.
    window : steps of the reference after a break; fewer at the end of the run.
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
            self._continue_window(learner)
            learner.save()
        else:
            self._look(learner)
            learner.save()

    def _look(self, learner: Learner) -> None:
        look = learner.advance_and_look(self.n_steps)
        if look.alarm:
            self._go_back(learner, look)
        elif look.is_uncertain:
            error = label_or_alarm(learner, look, learner.look())
            if error is None:
                self._go_back(learner, look)
            else:
                self._open_window(learner, look, "the gate breaks", error)
        else:
            assert look.observation is not None
            details = {}
            if learner.writes_frame:
                distances = learner.distance_from_start(look.observation.atoms)
                details["distance_from_start"] = distances
            learner.record("accept", "no gate objects", look.findings, **details)
            remember_sound(learner)

    def _go_back(self, learner: Learner, look: Look) -> None:
        return_to_sound(learner, look, self.max_returns, REMEDY)
        error = label_sound(learner)
        why = "alarm: back to the last sound step"
        if error is None:
            learner.dynamics.draw_velocities()
            why += f", {NOT_CONVERGED_EITHER}"
            learner.record("return", why, look.findings, failed_at=look.step)
        else:
            self._open_window(learner, look, why, error)

    def _open_window(self, learner: Learner, look: Look, why: str, error: float) -> None:
        """Hand over to the reference, for no more steps than are left; at the last one the label is all."""
        n_left = min(self.window, self.n_steps - learner.dynamics.step)
        action = "window" if n_left > 0 else "label"
        why += f": {n_left} steps of the reference" if n_left > 0 else " at the last step"
        learner.state.policy["window_left"] = max(n_left, 0)
        learner.record(action, why, look.findings, error=error, failed_at=look.step)

    def _continue_window(self, learner: Learner) -> None:
        """Go on with the window; where the reference refuses its own way, back for another one."""
        alarm = continue_window(learner, self.keep_every)
        if alarm is None:
            return
        return_to_sound(learner, alarm, self.max_returns, REMEDY)
        if not learner.n_untrained:
            learner.dynamics.draw_velocities()
        why = "alarm in the window: back to the last sound step"
        learner.record("return", why, alarm.findings, failed_at=alarm.step)
