"""Damage to a store of a busy runtime, each with the check that finds it, and what can be repaired."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from greenroom.persistence.keys import Signer, read_key

from .doctor_stores import change, rows, sign_anew


class Planted:
    """Damage, what finds it, and whether it can be put right."""

    def __init__(
        self,
        check: str,
        *statements: str,
        says: str,
        repaired: bool = False,
        kept: bool = True,
        also: tuple[str, ...] = (),
        left: tuple[str, ...] | None = None,
        damage: Callable[[Path], None] | None = None,
    ) -> None:
        self.check, self.statements, self.says = check, statements, says
        self.repaired, self.kept, self.also, self.damage = repaired, kept, also, damage
        self.left = (check, *also) if left is None else left

    def __call__(self, store: Path) -> None:
        change(store, *self.statements)
        if self.damage is not None:
            self.damage(store)


LAST = "(SELECT max(agent_id) FROM agents)"
OPEN = "(SELECT agent_id FROM agents WHERE path = '/busy/counter-5')"
CLOSED = "(SELECT agent_id FROM agents WHERE status = 'closed' LIMIT 1)"
RUN = "run_id = 'count-5-2'"


def without_index(name: str, *statements: str) -> Callable[[Path], None]:
    """Do `statements` behind the back of an index, which then no longer holds what its table does."""

    def damage(store: Path) -> None:
        (row,) = rows(
            store, f"SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master WHERE name = '{name}'"
        )
        change(store, "PRAGMA writable_schema = ON", f"DELETE FROM sqlite_master WHERE name = '{name}'")
        change(store, *statements)
        connection = sqlite3.connect(store, isolation_level=None)
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)
        connection.close()

    return damage


def overwritten(table: str) -> Callable[[Path], None]:
    """Destroy the first page of a table."""

    def damage(store: Path) -> None:
        ((page,),) = rows(store, f"SELECT rootpage FROM sqlite_master WHERE name = '{table}'")
        with open(store, "r+b") as file:
            file.seek((page - 1) * 4096)
            file.write(b"\x00" * 2048)

    return damage


def other_key(store: Path) -> None:
    Path(f"{store}.key").write_bytes(bytes(32))


def no_key(store: Path) -> None:
    Path(f"{store}.key").unlink()


def half_a_key(store: Path) -> None:
    Path(f"{store}.key").write_bytes(bytes(16))


def readable(store: Path) -> None:
    os.chmod(store, 0o644)
    os.chmod(f"{store}.key", 0o640)


def sealed_state(path: str, codec: str, data: bytes) -> Callable[[Path], None]:
    """Put a state there that is genuine, but not what it should be."""

    def damage(store: Path) -> None:
        ((agent_id, version),) = rows(
            store,
            "SELECT agent_id, s.version FROM snapshots AS s JOIN agents USING (agent_id)"
            f" WHERE path = '{path}'",
        )
        sealed = Signer(read_key(str(store))).seal(data, ("state", agent_id, codec, version))
        connection = sqlite3.connect(store, isolation_level=None)
        connection.execute(
            "UPDATE snapshots SET codec = ?, data = ? WHERE agent_id = ?", (codec, sealed, agent_id)
        )
        connection.close()

    return damage


DAMAGES = [
    # the file
    Planted(
        "pages",
        says="missing from index agents_closed_at",
        repaired=True,
        damage=without_index(
            "agents_closed_at", "UPDATE agents SET updated_at = updated_at - 1 WHERE status = 'closed'"
        ),
    ),
    Planted(
        "pages",
        says="btreeInitPage|malformed|Page",
        damage=overwritten("events"),
        also=("next-numbers", "times", "terminal-events", "events"),
    ),
    Planted("schema-version", "PRAGMA user_version = 0", says=r"version 0.*makes \d", repaired=True),
    Planted(
        "tables",
        "DROP TABLE inbox",
        says="no table inbox",
        also=("indexes-and-triggers", "next-numbers", "inbox-of-agents", "times", "signatures", "key-fits"),
    ),
    Planted("tables", "DROP TABLE owner", says="no table owner", also=("owner", "epochs")),
    Planted("tables", "ALTER TABLE agents ADD COLUMN extra TEXT", says="agents is another one, in: extra"),
    Planted(
        "processes",
        "INSERT INTO processes (number, agent_id, path) VALUES (7, 1, '/t/a')",
        says="record of process 7 names none: Expected `int`, got `null`",
    ),
    Planted(
        "indexes-and-triggers", "DROP INDEX runs_unfinished", says="no index runs_unfinished", repaired=True
    ),
    Planted(
        "indexes-and-triggers",
        "DROP INDEX agents_open",
        "CREATE INDEX agents_open ON agents(path) WHERE status <> 'closed'",
        says="index agents_open is another one",
        repaired=True,
    ),
    Planted(
        "indexes-and-triggers", "DROP TRIGGER agent_erased", says="no trigger agent_erased", repaired=True
    ),
    Planted(
        "additions",
        "CREATE TRIGGER evil AFTER INSERT ON events BEGIN DELETE FROM inbox; END",
        says="trigger evil on events",
    ),
    Planted(
        "additions",
        "CREATE UNIQUE INDEX one_kind ON agents(kind, path, agent_id)",
        says="index one_kind on agents",
    ),
    Planted("key", says="no key file", damage=no_key),
    Planted("key", says="must be a file of 32 bytes", damage=half_a_key),
    Planted(
        "key-fits", says="none of 100 values|none of \\d+ values", damage=other_key, also=("signatures",)
    ),
    Planted("file-modes", says="mode 0644, not 0600", damage=readable, repaired=True),
    # owner and numbers
    Planted("owner", "UPDATE owner SET pid = 0", says="its record of an owner is no record", repaired=True),
    Planted("meta", "DELETE FROM meta", says="meta has no row", repaired=True),
    Planted(
        "meta",
        "INSERT INTO meta (id, epoch, known, next_agent_id, next_serial, next_seq, closed)"
        " SELECT 2, epoch, known, next_agent_id, next_serial, next_seq, closed FROM meta",
        says=r"meta has rows \[1, 2\]",
        repaired=True,
    ),
    Planted("counts", "UPDATE meta SET known = known + 5", says="known is", repaired=True),
    Planted("counts", "UPDATE meta SET closed = 0", says="closed is 0, and there are 2", repaired=True),
    Planted("next-numbers", "UPDATE meta SET next_seq = 3", says="next_seq is 3", repaired=True),
    Planted("next-numbers", "UPDATE meta SET next_serial = 3", says="next_serial is 3", repaired=True),
    Planted("next-numbers", "UPDATE meta SET next_agent_id = 3", says="next_agent_id is 3", repaired=True),
    Planted(
        "epochs",
        f"UPDATE runs SET epoch = 50 WHERE {RUN}",
        says="opened 1 times.*rows of opening 50",
        repaired=True,
    ),
    # agents
    Planted(
        "one-agent-per-path",
        "DROP INDEX agents_open",
        f"UPDATE agents SET path = '/busy/plain' WHERE agent_id = {OPEN}",
        says="2 open agents have the path /busy/plain",
        also=("indexes-and-triggers",),
        damage=sign_anew,
    ),
    Planted(
        "paths",
        f"UPDATE agents SET path = '/Busy//x' WHERE agent_id = {OPEN}",
        says="'/Busy//x' is no path",
        damage=sign_anew,
    ),
    Planted(
        "agents-at-rest",
        f"UPDATE agents SET status = 'running' WHERE agent_id = {OPEN}",
        says="/busy/counter-5 has the status running",
    ),
    Planted(
        "agents-at-rest",
        f"UPDATE agents SET incarnation = NULL WHERE agent_id = {OPEN}",
        says="/busy/counter-5 has the incarnation NULL",
    ),
    Planted(
        "last-outcome",
        f"UPDATE agents SET last_run_id = 'gone' WHERE agent_id = {OPEN}",
        "DELETE FROM superseded WHERE serial = (SELECT serial FROM runs WHERE run_id = 'count-5-2')",
        says="/busy/counter-5: its last run gone is not there",
        also=("superseded",),
        repaired=True,
        kept=False,
    ),
    Planted(
        "last-outcome",
        f"UPDATE agents SET last_run_id = 'count-6-2' WHERE agent_id = {OPEN}",
        says="count-6-2 is of another agent",
        repaired=True,
        kept=False,
    ),
    Planted(
        "last-outcome",
        f"UPDATE agents SET last_run_id = NULL WHERE agent_id = {OPEN}",
        says="is not named",
        repaired=True,
        kept=False,
    ),
    Planted(
        "inbox-of-agents",
        f"UPDATE inbox SET agent_id = 999 WHERE agent_id = {OPEN}",
        says="for agent 999",
        repaired=True,
        also=("signatures",),
    ),
    Planted(
        "snapshots-of-agents",
        f"UPDATE snapshots SET agent_id = 999 WHERE agent_id = {OPEN}",
        says="snapshot of agent 999",
        also=("snapshots-there", "signatures"),
        left=("snapshots-there",),
    ),
    Planted(
        "snapshots-there",
        f"DELETE FROM snapshots WHERE agent_id = {OPEN}",
        says="/busy/counter-5 had a state, and has no snapshot",
    ),
    Planted(
        "stateful",
        f"UPDATE agents SET stateful = NULL WHERE agent_id = {OPEN}",
        says="/busy/counter-5 has a snapshot",
        repaired=True,
        kept=False,
    ),
    Planted(
        "times",
        f"UPDATE agents SET created_at = 1e300 WHERE agent_id = {OPEN}",
        says="created_at of agents /busy/counter-5 is 1e\\+300",
    ),
    Planted("times", "UPDATE events SET at = -1 WHERE seq = 7", says="at of events 7 is -1"),
    # runs and events
    Planted(
        "one-run-per-id",
        "DROP INDEX runs_id",
        f"UPDATE runs SET run_id = 'count-6-2' WHERE {RUN}",
        says="2 runs have the id count-6-2",
        also=("indexes-and-triggers", "last-outcome", "signatures", "superseded"),
        left=("one-run-per-id", "indexes-and-triggers", "last-outcome", "signatures"),
        kept=False,
    ),
    Planted(
        "runs-of-agents",
        "UPDATE runs SET agent_id = 999 WHERE status = 'accepted' AND awaits IS NULL",
        says=r"run .*\(accepted\) is of agent 999",
        repaired=True,
        damage=sign_anew,
    ),
    Planted(
        "runs-of-closed-agents",
        f"UPDATE runs SET agent_id = {CLOSED} WHERE status = 'accepted' AND awaits IS NULL",
        says="waits for /busy/counter-0, which is closed",
        repaired=True,
        damage=sign_anew,
        kept=False,
    ),
    Planted(
        "outcomes",
        f"UPDATE runs SET status = 'running' WHERE {RUN}",
        says="count-5-2 has the status running",
        also=("terminal-events",),
        damage=sign_anew,
    ),
    Planted("outcomes", f"UPDATE runs SET ended_at = NULL WHERE {RUN}", says="has ended, but at no time"),
    Planted("outcomes", f"UPDATE runs SET result = NULL WHERE {RUN}", says="completed without a result"),
    Planted("outcomes", f"UPDATE runs SET attempt = 0 WHERE {RUN}", says="completed without having begun"),
    Planted("outcomes", f"UPDATE runs SET attempt = -1 WHERE {RUN}", says="has begun -1 times"),
    Planted("outcomes", f"UPDATE runs SET error = 'no' WHERE {RUN}", says="completed with an error"),
    Planted("outcomes", f"UPDATE runs SET started_at = NULL WHERE {RUN}", says="has begun, but at no time"),
    Planted(
        "outcomes", "UPDATE runs SET error = NULL WHERE status = 'failed'", says="does not say why it ended"
    ),
    Planted(
        "outcomes",
        "UPDATE runs SET ended_at = 1.0 WHERE status = 'accepted'",
        says="is accepted, and has some of an outcome",
    ),
    Planted(
        "terminal-events",
        f"DELETE FROM events WHERE {RUN} AND type = 'run.completed'",
        says="count-5-2 completed, and no event tells of it",
        repaired=True,
        kept=False,
    ),
    Planted(
        "terminal-events",
        f"DELETE FROM events WHERE {RUN}",
        says="count-5-2 completed, and no event tells of it",
        repaired=True,
        kept=False,
    ),
    Planted(
        "terminal-events",
        "INSERT INTO events SELECT (SELECT next_seq FROM meta), at, type, path, run_id, data"
        f" FROM events WHERE {RUN} AND type = 'run.completed'",
        "UPDATE meta SET next_seq = next_seq + 1",
        says="completed, and 2 events tell of its end",
        repaired=True,
    ),
    Planted(
        "terminal-events",
        "INSERT INTO events SELECT (SELECT next_seq FROM meta), at, 'run.failed', path, run_id,"
        f" data FROM events WHERE {RUN} AND type = 'run.completed'",
        "UPDATE meta SET next_seq = next_seq + 1",
        says="completed, and 2 events tell of its end",
        repaired=True,
    ),
    Planted(
        "terminal-events",
        f"UPDATE events SET type = 'run.failed' WHERE {RUN} AND type = 'run.completed'",
        says="completed, and its event is run.failed",
    ),
    Planted(
        "terminal-events",
        "UPDATE events SET run_id ="
        " (SELECT run_id FROM runs WHERE status = 'accepted' AND awaits IS NOT NULL)"
        f" WHERE {RUN} AND type = 'run.completed'",
        says="has no outcome, and an event run.completed",
        kept=False,
    ),
    Planted(
        "terminal-events",
        "INSERT INTO events SELECT (SELECT next_seq FROM meta), at, 'run.progress', path, run_id,"
        f" data FROM events WHERE {RUN} AND type = 'run.completed'",
        "UPDATE meta SET next_seq = next_seq + 1",
        says="has an event after its run.completed",
    ),
    Planted(
        "superseded",
        "INSERT INTO superseded (serial, at) SELECT serial, 1.0 FROM runs WHERE run_id = 'count-5-2'",
        says="count-5-2 waits for retention, and is still needed",
        repaired=True,
    ),
    Planted("superseded", "DELETE FROM superseded", says="nobody's last outcome", repaired=True),
    Planted(
        "awaits",
        "UPDATE runs SET awaits = '[1' WHERE status = 'accepted' AND awaits IS NOT NULL",
        says=r"waits for '\[1', which is no list of runs",
        damage=sign_anew,
    ),
    Planted(
        "after-cycles",
        "UPDATE runs SET awaits = (SELECT json_array(run_id) FROM runs"
        " WHERE status = 'accepted' AND awaits IS NOT NULL)"
        " WHERE serial = (SELECT max(serial) FROM runs WHERE status = 'accepted' AND awaits IS NULL)",
        says="these runs wait for each other: run-.*, run-",
        damage=sign_anew,
    ),
    Planted(
        "events",
        "UPDATE events SET type = 'run.lost' WHERE type = 'agent.evicted'",
        says="no known type, run.lost",
    ),
    Planted("events", "UPDATE events SET data = x'7b' WHERE seq = 3", says="event 3 cannot be shown"),
    Planted(
        "events",
        "UPDATE events SET seq = -5 WHERE type = 'message.accepted'"
        " AND seq = (SELECT max(seq) FROM events WHERE type = 'message.accepted')",
        says="event -5 comes after event 0",
    ),
    # values
    Planted(
        "signatures",
        f"UPDATE agents SET config = garbage(40) WHERE agent_id = {OPEN}",
        says="/busy/counter-5: config does not carry",
    ),
    Planted(
        "signatures",
        f"UPDATE runs SET input = garbage(40) WHERE {RUN}",
        says="run count-5-2 of /busy/counter-5: input does not carry",
    ),
    Planted(
        "signatures", f"UPDATE runs SET result = garbage(3) WHERE {RUN}", says="result has no signature"
    ),
    Planted(
        "signatures",
        f"UPDATE inbox SET body = garbage(40) WHERE agent_id = {OPEN}",
        says="/busy/counter-5: body does not carry",
    ),
    Planted(
        "signatures",
        f"UPDATE snapshots SET data = garbage(40) WHERE agent_id = {OPEN}",
        says="/busy/counter-5: state does not carry",
    ),
    Planted(
        "signatures",
        f"UPDATE snapshots SET codec = 'json' WHERE codec = 'cloudpickle' AND agent_id = {OPEN}",
        says="/busy/counter-5: state does not carry",
    ),
    Planted(
        "snapshots-readable",
        says="the state of /busy/plain: .*",
        damage=sealed_state("/busy/plain", "json", b"{"),
    ),
    Planted(
        "snapshots-readable",
        says="the state of /busy/packed: .*",
        damage=sealed_state("/busy/packed", "msgpack", b"\xc1"),
    ),
    Planted(
        "snapshots-readable",
        says="knows no codec 'cbor'",
        damage=sealed_state("/busy/plain", "cbor", b"\xa0"),
    ),
]
