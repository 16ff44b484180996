"""The harness of the benchmarks: sections are replaced, contestants take turns."""

from __future__ import annotations

import harness


def test_a_section_is_replaced_and_others_stay(tmp_path):
    path = tmp_path / "RESULTS.md"
    for name, body in (("one", "outdated"), ("two", "kept"), ("one", "new")):
        harness.write_section(name, f"Title {name}", body, "a command", path)
    text = path.read_text()
    assert text.startswith("# Results")
    assert "outdated" not in text
    assert (
        text.index("Title one") < text.index("new") < text.index("Title two") < text.index("kept")
    )


def test_contestants_take_turns():
    calls = []
    contestants = {name: lambda name=name: calls.append(name) for name in "ab"}
    timings = harness.paired_timings(contestants, rounds=2, calls={"a": 1, "b": 2})
    assert "".join(calls) == "ab" + "abb" * 2
    assert len(timings["a"].seconds) == 2
    calls.clear()
    harness.paired_timings(contestants, rounds=1, warm_up=3)
    assert "".join(calls) == "ab" + "aaaa" + "bbbb"


def test_ratio_is_taken_round_by_round():
    """A machine that slows down by 10 in the third round does not change a ratio of 2."""
    first, second = harness.Timing((2.0, 4.0, 20.0)), harness.Timing((1.0, 2.0, 10.0))
    assert harness.ratios(first, second) == 2.0
    assert first.median == 4.0
    assert harness.table(["a", "b"], [["x", 0.123456]]).splitlines()[-1] == "| x | 0.1235 |"
