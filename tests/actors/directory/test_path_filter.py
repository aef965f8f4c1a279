"""The filter of paths given out: it may say "perhaps" of a free path, and never "free" of a taken one."""

from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.directory.path_filter import MOST_TREES, PathFilter

names = st.text("abc0-", min_size=1, max_size=6)
paths = st.builds(lambda tree, rest: f"/{tree}/{rest}", st.sampled_from("abc"), names)


@given(st.lists(paths), st.lists(paths), st.sets(st.sampled_from("abc")))
def test_only_paths_of_empty_trees_that_were_not_given_out_are_new(
    given_out: list[str], asked: list[str], empty: set[str]
) -> None:
    novelty = PathFilter()
    for tree in "abc":
        assert not novelty.knows(tree)
        novelty.found(tree, empty=tree in empty)
        assert novelty.knows(tree)
    for path in given_out:
        novelty.add(path)
    for path in {*asked, *given_out}:
        free = path not in given_out
        assert novelty.is_new(path) == (free and path[1] in empty)


def test_a_hundred_thousand_paths_leave_nearly_all_others_new() -> None:
    novelty = PathFilter()
    novelty.found("t", empty=True)
    for n in range(100_000):
        novelty.add(f"/t/a{n}")
    assert not any(novelty.is_new(f"/t/a{n}") for n in range(100_000))
    assert sum(novelty.is_new(f"/t/b{n}") for n in range(1_000)) >= 998


def test_a_tree_that_was_forgotten_is_not_called_empty() -> None:
    novelty = PathFilter()
    for n in range(MOST_TREES + 1):
        novelty.found(f"t{n}", empty=True)
    assert not novelty.is_new("/t0/a")
    assert novelty.is_new("/t1/a")
    assert not novelty.knows("t0")
