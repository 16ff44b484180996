"""State and growing files on disk."""

from __future__ import annotations

import pytest

from qnep.learn.state import (
    DECISIONS_FILE,
    STATE_FILE,
    GrowingFile,
    State,
    StateError,
    read_decisions,
)


def test_a_state_comes_back_with_every_digit(tmp_path):
    state = State(
        "abc", policy={"sound": {"step": 3}}, training=[0, 2], thresholds={"x": 0.1 + 0.2}
    )
    state.save(tmp_path)
    assert State.load(tmp_path) == state
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 2, "dig', "cannot be read"),
        ('{"format": 99}', "another version"),
        ('{"format": 2, "digest": "a", "surprise": 1}', "surprise"),
        ("[]", "cannot be read"),
    ],
)
def test_damaged_states(tmp_path, content, message):
    (tmp_path / STATE_FILE).write_text(content)
    with pytest.raises(StateError, match=message):
        State.load(tmp_path)


def test_nothing_to_resume(tmp_path):
    with pytest.raises(StateError, match="no run to resume"):
        State.load(tmp_path)


def test_a_growing_file_is_cut_back_to_what_the_state_knows(tmp_path):
    file = GrowingFile(tmp_path / "log")
    file.cut(0)
    file.append("one\n")
    size = file.size
    file.append("two, written after the last state\n")
    file.cut(size)
    assert file.path.read_text() == "one\n"
    with pytest.raises(StateError, match="has 4 bytes, the state of the run knows 9"):
        file.cut(9)


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / DECISIONS_FILE
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [decision["step"] for decision in read_decisions(tmp_path)] == [1, 2]
    path.write_text('{"step": 1}\nnonsense\n{"step": 3}\n')
    with pytest.raises(StateError, match="line 2"):
        list(read_decisions(tmp_path))
