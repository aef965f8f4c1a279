"""What the tools say, and which agents a client can name."""

from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import InvalidPath, Turn, agent
from greenroom.actors.agent.kind import kind_of
from greenroom.mcp import tools
from greenroom.mcp.trees import SESSION, Tree, Trees
from greenroom.paths import check_path, is_under


@agent(name="mcp-tools-described")
async def described(turn: Turn) -> None:
    """Finds things
    on the web.

    And more.
    """


@agent(name="mcp-tools-bare")
async def bare(turn: Turn) -> None: ...


def test_the_tools_are_the_seven_that_models_know() -> None:
    assert list(tools.BY_NAME) == [
        "spawn_agent", "send_message", "followup_task", "wait_agent", "interrupt_agent", "list_agents",
        "close_agent",
    ]  # fmt: skip


@pytest.mark.parametrize("tool", tools.TOOLS, ids=lambda tool: tool.name)
def test_schemas_are_schemas_of_objects_with_everything_described(tool: tools.Tool) -> None:
    for schema in (tool.input_schema(), tool.output_schema()):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
    assert tool.input_schema()["additionalProperties"] is False
    for name, field in tool.input_schema()["properties"].items():
        assert "description" in field, name


def test_spawn_agent_names_the_kinds_with_what_their_authors_wrote() -> None:
    kind = tools.spawn_schema(map(kind_of, (described, bare)))["properties"]["kind"]
    assert kind["enum"] == ["mcp-tools-described", "mcp-tools-bare"]
    assert "- mcp-tools-described: Finds things on the web.\n" in kind["description"]
    assert "- mcp-tools-bare: (not described)" in kind["description"]


@given(st.text() | st.from_regex(tools.NAME))
def test_no_name_leads_out_of_the_tree(name: str) -> None:
    tree = Tree("mine", passing=False)
    try:
        path = tree.path_of(name)
    except InvalidPath:
        return
    assert is_under(path, "/mine")
    assert path != "/mine"
    assert tree.name_of(path) == name


@pytest.mark.parametrize("name", ["/other/a", "..", "../other", "a//b", "", "a/", "A", "a\n"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidPath):
        Tree("mine", passing=False).path_of(name)


def test_each_session_has_a_tree_that_nobody_can_guess() -> None:
    trees, others = Trees(None), Trees(None)
    assert trees.of("one") == trees.of("one") != trees.of("two")
    assert trees.of("one") != others.of("one")
    assert trees.of("one").name.startswith(SESSION)
    assert trees.of("one").passing
    check_path(trees.of("one").path)
    assert trees.made(trees.of("one").name)
    assert not others.made(trees.of("one").name)
    assert not trees.made(f"{SESSION}notes")
    assert not trees.made(f"{SESSION}\u00e9")


def test_a_given_tree_is_that_of_all_sessions_and_stays() -> None:
    trees = Trees("team")
    assert trees.of("one") == trees.of("two") == Tree("team", passing=False)


def test_a_tree_that_no_agent_can_be_in_is_refused() -> None:
    with pytest.raises(InvalidPath):
        Trees("no/tree/Of Mine")


@pytest.mark.parametrize(
    ("arguments", "struct"),
    [
        ({"agents": []}, tools.WaitAgentArguments),
        ({"timeout_seconds": tools.MOST_SECONDS + 1}, tools.WaitAgentArguments),
        ({"timeout_seconds": -1}, tools.WaitAgentArguments),
        ({"until": "some"}, tools.WaitAgentArguments),
        ({"agent": "a"}, tools.SendMessageArguments),
        ({"agent": "a", "message": 1, "more": 2}, tools.SendMessageArguments),
        ({"kind": "k"}, tools.SpawnAgentArguments),
        ({"agent": "a", "input": 1, "run_id": ""}, tools.FollowupTaskArguments),
        ({"limit": 0}, tools.ListAgentsArguments),
    ],
)
def test_arguments_outside_their_bounds_are_refused(arguments: Any, struct: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(arguments, struct)
    (schema,) = [tool.input_schema() for tool in tools.TOOLS if tool.takes is struct]
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(arguments))  # clients are told the same
