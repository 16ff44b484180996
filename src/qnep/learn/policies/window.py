"""What policies share: a stretch of reference dynamics, filtered; and the end of a run."""

from __future__ import annotations

from qnep.learn.dynamics import REFERENCE
from qnep.learn.learner import Learner


def check_counts(**counts: int) -> None:
    """Raise ValueError for a count below one."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(
                f"{name} of the policy must be a whole number of at least 1, got {count!r}"
            )


def drive_by_reference(learner: Learner, n_steps: int) -> None:
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
    """End the run."""
    learner.state.is_done = True
    learner.record("done", why, [])
    learner.save()
