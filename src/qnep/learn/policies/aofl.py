"""On-the-fly learning with a similarity screen before each reference call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from qnep.learn.learner import Learner, Look
from qnep.learn.policies.window import (
    NOT_CONVERGED_EITHER,
    check_counts,
    finish,
    label_or_alarm,
    label_sound,
    remember_sound,
    return_to_sound,
)

REMEDY = "enlarge the start set, or lower timestep and temperature"


@dataclass(frozen=True)
class OnTheFly:
    """One run driven by the models; the reference is asked when they are uncertain about something new.

    Parameters
    ----------
    n_steps : length of the run.
    retrain_after : labels after which the models are trained; before that where they are uncertain about what is like
        a label that waits, and at the end of the run.
    retrain_error : eV/Å, a true error above which they are trained at once.
    max_returns : times that the run may go back after an alarm without getting any further.

    References
    ----------
    AOFL, Sci. China Chem. (2025), doi:10.1007/s11426-025-2985-3: the idea. Its measures and thresholds are not public;
    those here are ours.
    """

    n_steps: int = 10000
    retrain_after: int = 5
    retrain_error: float = 1.0
    max_returns: int = 10
    name: ClassVar[str] = "aofl"

    def __post_init__(self) -> None:
        check_counts(self)
        if not self.retrain_error > 0:
            raise ValueError(
                f"retrain_error of the policy must be positive, got {self.retrain_error:g} eV/Å"
            )

    def begin(self, learner: Learner) -> dict[str, Any]:
        """See `Policy`."""
        return {
            "sound": learner.dynamics.snapshot().as_dict(),
            "n_returns": 0,
            "must_train": False,
        }

    def advance(self, learner: Learner) -> None:
        """See `Policy`."""
        memory = learner.state.policy
        if memory["must_train"] or learner.n_untrained >= self.retrain_after:
            memory["must_train"] = False
            if learner.n_untrained:
                learner.train(f"{learner.n_untrained} new labels")
        elif learner.dynamics.step >= self.n_steps:
            finish(learner, f"{self.n_steps} steps are done")
        else:
            self._look(learner)
            learner.save()

    def _look(self, learner: Learner) -> None:
        look = learner.advance_and_look(self.n_steps)
        if not look.alarm:
            self._accept_or_ask(learner, look)
        if look.alarm:  # one of the look, or the reference refuses the frame
            self._go_back(learner, look)
        else:
            remember_sound(learner)

    def _accept_or_ask(self, learner: Learner, look: Look) -> None:
        if look.is_uncertain:
            self._ask_if_new(learner, look)
        else:
            learner.record("accept", "no gate objects", look.findings)

    def _ask_if_new(self, learner: Learner, look: Look) -> None:
        assert look.observation is not None and look.uncertainty is not None
        look.known = learner.is_known(look.observation, look.uncertainty.atoms)
        if not look.known.fires:
            learner.record("skip", "uncertain, but like what is labelled already", look.findings)
            # What it is like may be waiting for a training, without which nothing here would ever become certain.
            learner.state.policy["must_train"] = learner.n_untrained > 0
            return
        error = label_or_alarm(learner, look, look.observation)
        if error is None:
            return
        if error > self.retrain_error:
            learner.state.policy["must_train"] = True
        learner.record("label", "uncertain and new", look.findings, error=error)

    def _go_back(self, learner: Learner, look: Look) -> None:
        """Return to the last sound configuration, label it and train; where it is known, go on in another direction."""
        return_to_sound(learner, look, self.max_returns, REMEDY)
        n_before = learner.n_untrained
        error = label_sound(learner)
        if learner.n_untrained == n_before:
            learner.dynamics.draw_velocities()
        learner.state.policy["must_train"] = learner.n_untrained > 0
        why, details = "alarm: back to the last sound step", {"error": error}
        if error is None:
            why, details = f"{why}, {NOT_CONVERGED_EITHER}", {}
        learner.record("return", why, look.findings, failed_at=look.step, **details)
