"""Errors as HTTP tells them."""

import json

import greenroom
from greenroom import BacklogFull, GreenroomError, PathTaken, RunIdTaken, RuntimeClosing
from greenroom.server import problems
from greenroom.server.problems import PROBLEMS, Malformed, TooOften, WrongMethod, problem_response


def test_every_error_has_a_row_of_its_own() -> None:
    """None is told by its base's row because somebody forgot it."""
    public = {getattr(greenroom, name) for name in greenroom.__all__}
    errors = {one for one in public if isinstance(one, type) and issubclass(one, GreenroomError)}
    own = {
        one
        for one in vars(problems).values()
        if isinstance(one, type) and issubclass(one, GreenroomError) and one.__module__ == problems.__name__
    }
    assert errors | own - {problems.Refusal} <= set(PROBLEMS)


def test_names_are_used_once_and_statuses_are_errors() -> None:
    names = [problem.name for problem in PROBLEMS.values()]
    assert len(set(names)) == len(names)
    assert all(400 <= problem.status < 600 for problem in PROBLEMS.values())


def test_a_problem_says_what_happened_and_carries_the_ids() -> None:
    status, headers, body = problem_response(PathTaken("/a/b"))
    assert status == 409
    assert headers == {"content-type": "application/problem+json"}
    found = json.loads(body)
    assert found == {
        "type": "urn:greenroom:problem:path-taken",
        "title": "An open agent has this path",
        "status": 409,
        "detail": str(PathTaken("/a/b")),
        "path": "/a/b",
    }
    assert json.loads(problem_response(RunIdTaken("r", "/a"))[2])["run_id"] == "r"


def test_who_may_try_again_is_told_when() -> None:
    assert problem_response(BacklogFull("/a", 5))[1]["retry-after"] == "1"
    assert problem_response(RuntimeClosing())[0] == 503
    assert problem_response(RuntimeClosing())[1]["retry-after"] == "5"
    assert problem_response(TooOften("slowly", 2.2))[1]["retry-after"] == "3"
    assert problem_response(WrongMethod("no", "GET"))[1]["allow"] == "GET"


def test_an_error_that_is_not_ours_tells_nothing_of_the_inside() -> None:
    status, _, body = problem_response(KeyError("/secret/path"))
    assert status == 500
    assert b"secret" not in body


def test_ours_are_told_in_their_own_words() -> None:
    assert (
        json.loads(problem_response(Malformed("the body is no JSON"))[2])["detail"] == "the body is no JSON"
    )
