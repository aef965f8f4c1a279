"""Who may do what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import InvalidPath
from greenroom.server.access import Access, Keyring
from greenroom.server.problems import OutOfReach

MAIN = "a-main-token-of-some-length"


def test_the_main_token_opens_everything_and_a_trees_token_its_tree() -> None:
    keyring = Keyring(MAIN)
    assert keyring.access(MAIN) == Access()
    assert keyring.access(keyring.grant("alice")) == Access("alice")


@given(st.one_of(st.none(), st.text(max_size=60)))
def test_nothing_else_opens_anything(token: str | None) -> None:
    assert Keyring(MAIN).access(token) is None


@pytest.mark.parametrize("other", ["bob", "alic", "alicee", "", "alice.alice"])
def test_a_trees_token_opens_no_other_tree(other: str) -> None:
    keyring = Keyring(MAIN)
    _, _, signature = keyring.grant("alice").rpartition(".")
    assert keyring.access(f"tree.{other}.{signature}") is None


def test_a_new_main_token_makes_the_trees_tokens_worthless() -> None:
    assert Keyring("another-main-token").access(Keyring(MAIN).grant("alice")) is None


def test_what_a_tree_reaches() -> None:
    access = Access("alice")
    assert access.agent("/alice") == "/alice"
    assert access.agent("/alice/a/b") == "/alice/a/b"
    assert access.under("/") == "/alice"
    assert access.under("/alice/a") == "/alice/a"
    for path in ("/bob", "/alice2", "/alice-2/a", "/bob/alice"):
        with pytest.raises(OutOfReach):
            access.agent(path)
        with pytest.raises(OutOfReach):
            access.under(path)
    with pytest.raises(OutOfReach):
        access.everything()


@pytest.mark.parametrize("path", ["/alice/../bob", "/alice//a", "/", "alice", "/Alice"])
def test_what_is_no_path_is_out_of_question(path: str) -> None:
    for access in (Access(), Access("alice")):
        with pytest.raises(InvalidPath):
            access.agent(path)
