"""Which of an agent's words are its last message: they come in chunks, among thoughts and tool calls."""

MESSAGE_CHUNK = "agent_message_chunk"
ASIDE = frozenset(
    ("usage_update", "available_commands_update", "current_mode_update", "config_option_update",
     "session_info_update")
)  # fmt: skip
"""Updates that say nothing about what is being done: a message goes on after one."""


LARGEST_ANSWER_BYTES = 64 << 20
"""Characters of a message; no more of it are kept."""


class LastMessage:
    """Told every update of a turn."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._over = True  # whatever comes next is another message
        self._parts: list[str] = []
        self.size = 0  # characters in all

    def update(self, kind: str, message_id: str | None, text: str) -> None:
        """`message_id` where the agent gives one; else a message ends when it does something else."""
        if kind in ASIDE:
            return
        if kind != MESSAGE_CHUNK:
            self._over = True
            return
        same = message_id == self._id if message_id and self._id else not self._over
        if not same:
            self._parts, self.size = [], 0
        self._id, self._over = message_id, False
        self.size += len(text)
        if self.size <= LARGEST_ANSWER_BYTES:
            self._parts.append(text)

    @property
    def text(self) -> str:
        return "".join(self._parts)
