"""Runs of growing length; on an alarm back to before the failure, where the reference steers to a physical path."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from qnep.learn.learner import Learner, LearningFailed, Look
from qnep.learn.policies.window import (
    check_counts,
    continue_window,
    finish,
    go_back,
    label_or_alarm,
)


@dataclass(frozen=True)
class InterfaceReactor:
    """Repeats runs from the start structure until one of `n_steps` passes without an alarm.

    Parameters
    ----------
    n_steps : length of the run that must be stable.
    first_steps : length that is asked for at first.
    growth : factor by which the length grows when a run has reached it.
    rewind_steps : the reference takes over so many steps before the alarm, at least.
    window : steps of the reference.
    keep_every : steps between two frames of the window that may be trained on.
    max_attempts : runs from the start before the loop gives up.

    References
    ----------
    Interface Reactor, arXiv:2604.07077: the scheme. What counts as unphysical, the lengths and the thresholds are in a
    supplement that is not public; those here are ours.
    """

    n_steps: int = 100000
    first_steps: int = 1000
    growth: float = 4.0
    rewind_steps: int = 100
    window: int = 50
    keep_every: int = 5
    max_attempts: int = 50
    name: ClassVar[str] = "interface-reactor"

    def __post_init__(self) -> None:
        check_counts(self)
        if not (math.isfinite(self.growth) and self.growth > 1):
            raise ValueError(
                f"growth of the policy must be a finite number above 1, got {self.growth:g}"
            )

    def begin(self, learner: Learner) -> dict[str, Any]:
        """See `Policy`."""
        return {
            "length": min(self.first_steps, self.n_steps),
            "attempt": 1,
            "history": [learner.dynamics.snapshot().as_dict()],
            "window_left": 0,
            "must_train": False,
        }

    def advance(self, learner: Learner) -> None:
        """See `Policy`."""
        memory = learner.state.policy
        if memory["must_train"]:
            self._train_and_start_again(learner)
        elif memory["window_left"] > 0:
            self._continue_window(learner)
        elif learner.dynamics.step >= memory["length"]:
            self._lengthen(learner)
        else:
            self._look(learner)
        learner.save()

    def _train_and_start_again(self, learner: Learner) -> None:
        memory = learner.state.policy
        if learner.n_untrained:
            learner.train(f"{learner.n_untrained} labels from before a failure")
        memory["must_train"] = False
        memory["attempt"] += 1
        learner.start_again([learner.parts.seed, 3, memory["attempt"]])
        memory["history"] = [learner.dynamics.snapshot().as_dict()]

    def _lengthen(self, learner: Learner) -> None:
        memory = learner.state.policy
        reached = memory["length"]
        if reached >= self.n_steps:
            finish(learner, f"a run of {reached} steps was stable, the attempt {memory['attempt']}")
            return
        memory["length"] = min(max(reached + 1, round(reached * self.growth)), self.n_steps)
        learner.record("lengthen", f"{reached} steps were stable; now {memory['length']}", [])

    def _look(self, learner: Learner) -> None:
        memory = learner.state.policy
        look = learner.advance_and_look(memory["length"])
        if look.alarm or look.is_uncertain:
            self._steer(learner, look)
            return
        learner.record("accept", "no gate objects", look.findings)
        memory["history"].append(learner.dynamics.snapshot().as_dict())
        newest = learner.dynamics.step - self.rewind_steps
        while len(memory["history"]) > 1 and memory["history"][1]["step"] <= newest:
            memory["history"].pop(0)

    def _continue_window(self, learner: Learner) -> None:
        alarm = continue_window(learner, self.keep_every)
        if alarm is not None:
            self._give_up_window(learner, alarm)

    def _give_up_window(self, learner: Learner, look: Look) -> None:
        """Begin the next run where the reference refuses the way that it was to steer."""
        learner.state.policy["must_train"] = True
        why = "the reference refuses a frame of its window: a new run from the start structure"
        learner.record("return", why, look.findings, failed_at=look.step)

    def _steer(self, learner: Learner, look: Look) -> None:
        memory = learner.state.policy
        if memory["attempt"] >= self.max_attempts:
            raise LearningFailed(
                f"{memory['attempt']} runs have failed; the last one at step {learner.dynamics.step} of "
                f"{memory['length']}. Raise max_attempts of [options] and go on with --resume, or look at the "
                "decisions for what fails"
            )
        failed_at = learner.dynamics.step
        go_back(learner, memory["history"][0])
        error = label_or_alarm(learner, look, learner.look())
        if error is None:
            self._give_up_window(learner, look)
            return
        memory["window_left"] = self.window
        why = f"failure at step {failed_at}: {self.window} steps of the reference from {learner.dynamics.step}"
        learner.record("steer", why, look.findings, error=error, failed_at=failed_at)
