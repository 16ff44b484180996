"""What policies share: ways back, a window of reference dynamics, filtered, and the end of a run."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from qnep.learn.dynamics import ML, REFERENCE, Snapshot
from qnep.learn.finding import Finding, Observation
from qnep.learn.learner import Learner, LearningFailed, Look
from qnep.learn.reference import FrameNotConverged, FrameRefused

NOT_CONVERGED_EITHER = "where the reference does not converge either: another direction"


def check_counts(policy: Any) -> None:
    """Raise ValueError for a whole number among the fields of a policy that is below one."""
    for field in fields(policy):
        count = getattr(policy, field.name)
        if field.type == "int" and (
            isinstance(count, bool) or not isinstance(count, int) or count < 1
        ):
            raise ValueError(
                f"{field.name} of the policy must be a whole number of at least 1, got {count!r}"
            )


def remember_sound(learner: Learner) -> None:
    """Take the present configuration for the one to go back to."""
    learner.state.policy["sound"] = learner.dynamics.snapshot().as_dict()
    learner.state.policy["n_returns"] = 0


def return_to_sound(learner: Learner, look: Look, max_returns: int, remedy: str) -> None:
    """Go back after an alarm to the last sound configuration.

    Raises
    ------
    LearningFailed : for the `max_returns` + 1st time in a row.
    """
    memory = learner.state.policy
    memory["n_returns"] += 1
    if memory["n_returns"] > max_returns:
        raise LearningFailed(
            f"{max_returns} returns from step {learner.dynamics.step} and still: {look.alarm}. "
            f"The models cannot pass here: {remedy}"
        )
    go_back(learner, memory["sound"])


def go_back(learner: Learner, snapshot: dict[str, Any]) -> None:
    """Put the atoms to an earlier moment; what gates compare with is not of this time."""
    learner.dynamics.go_back(Snapshot.from_dict(snapshot))
    learner.forget_looks()


def label_or_alarm(learner: Learner, look: Look, observation: Observation) -> float | None:
    """Label the present configuration and return the true error, eV/Å.

    None, and one more alarm of the look, where the reference refuses the frame for good.
    """
    try:
        return learner.label(observation)
    except FrameRefused as refusal:
        look.alarms.append(_alarm_of(refusal))
        return None


def label_sound(learner: Learner) -> float | None:
    """Label the configuration that the run went back to and return the true error, eV/Å.

    None where the reference does not converge there: unlike a limit, nothing can be raised for a resumed run, which
    would stop here for ever; so the models drive on, and the policy takes another direction.
    """
    try:
        return learner.label(learner.look())
    except FrameNotConverged:
        # Else the next step would begin with the forces that are not to be had.
        learner.turns.driver = ML
        return None


def continue_window(learner: Learner, keep_every: int) -> Look | None:
    """Let the reference drive to the next frame of a window; training is due at its end.

    Returns an alarm, at which the window ends too, where the reference comes to a frame that it refuses for good.
    """
    memory = learner.state.policy
    n_steps = min(keep_every, memory["window_left"])
    try:
        _drive_by_reference(learner, n_steps)
    except FrameRefused as refusal:
        memory["window_left"], memory["must_train"] = 0, True
        # The step that it was refused in has not been counted yet.
        return Look(learner.dynamics.step + 1, None, [_alarm_of(refusal)], None)
    memory["window_left"] -= n_steps
    memory["must_train"] = memory["window_left"] == 0
    return None


def _alarm_of(refusal: FrameRefused) -> Finding:
    return Finding("reference", np.inf, 0.0, "", True, (), str(refusal))


def _drive_by_reference(learner: Learner, n_steps: int) -> None:
    """Let the reference drive some steps; the frame at their end is trained on if it shows anything new."""
    learner.advance(n_steps, REFERENCE)
    observation = learner.look()
    labelled = learner.latest_label()
    error = learner.true_error(observation, labelled)
    known = learner.is_known(observation, ())
    is_kept = known.fires and learner.keep(labelled, observation.features)
    learner.record(
        "keep" if is_kept else "drop",
        "reference dynamics: "
        + ("an environment not seen before" if is_kept else "all seen before"),
        [known],
        error=error,
        distance_from_start=learner.distance_from_start(observation.atoms),
    )


def finish(learner: Learner, why: str) -> None:
    """End the run, with models that have seen all its labels."""
    if learner.n_untrained:
        learner.train(f"{learner.n_untrained} new labels at the end")
    learner.state.is_done = True
    learner.record("done", why, [])
    learner.save()
