from dataclasses import replace

import numpy as np

from qnep.train.hygiene import check_frames, format_findings


def find(frames, check):
    return next(finding for finding in check_frames(frames, ("O", "H")) if finding.check == check)


def balanced(frames):
    return [replace(frame, forces=frame.forces - frame.forces.mean(axis=0)) for frame in frames]


def test_clean_data_raise_no_problem(make_frames):
    frames = [replace(frame, level="PBE") for frame in balanced(make_frames(15))]
    assert not [finding for finding in check_frames(frames, ("O", "H")) if finding.is_problem]


def test_each_problem_is_found(make_frames):
    frames = balanced(make_frames(15))
    twice = frames + [replace(frames[3], label="again")]
    assert find(twice, "duplicates").frames == ("again = frame 3",)
    pushed = [replace(frames[0], forces=frames[0].forces + 0.1), *frames[1:]]
    assert find(pushed, "net force").is_problem
    assert find([replace(frames[0], forces=50 * frames[0].forces)], "large forces").is_problem
    wrong = [replace(frames[0], energy=frames[0].energy + 100.0), *frames[1:]]
    assert find(wrong, "energy outliers").frames[0].startswith("frame 0")
    assert find([replace(frames[0], virial=None), *frames[1:]], "virials").frames == ("frame 0",)
    assert find([replace(frames[0], level="HSE"), *frames[1:]], "level of theory").is_problem
    assert find(frames[:3], "atoms of each element").is_problem


def test_table_names_the_frames(make_frames):
    frames = make_frames(3)
    text = format_findings(check_frames([*frames, replace(frames[0], label="again")], ("O", "H")))
    assert "LOOK  duplicates" in text and "again = frame 0" in text
    assert np.all([len(line) < 200 for line in text.splitlines()])
