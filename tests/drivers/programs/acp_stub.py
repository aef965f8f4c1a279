"""An ACP agent for the tests, by the standard library alone so that it starts in no time.

What it does is what its prompt says; how it opens, its environment: STUB_OPEN is "fail", "hang", "login",
"version", "deaf" (to SIGTERM), "stuck" (when a session is made, until there is a file "unstuck") or "wait"
(until the file STUB_GATE is there).
"""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

OPEN = os.environ.get("STUB_OPEN", "")
LOADS = os.environ.get("STUB_LOADS") == "1"
CANCELLED = set()
NUMBERS = iter(range(1, 1_000_000))


def say(**message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def hear():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


def update(session, what, /, **fields):
    say(method="session/update", params={"sessionId": session, "update": {"sessionUpdate": what, **fields}})


def chunk(session, text, kind="agent_message_chunk"):
    update(session, kind, content={"type": "text", "text": text})


def ask(method, **params):
    """A request of ours; its result, or its error's details."""
    number = f"ours-{next(NUMBERS)}"
    say(id=number, method=method, params=params)
    while True:
        message = hear()
        if message.get("id") == number and "method" not in message:
            return message.get("result", message.get("error"))
        note(message)


def note(message):
    if message.get("method") == "session/cancel":
        CANCELLED.add(message["params"]["sessionId"])


def memory(session):
    return Path(f"session-{session}.json")


def prompt(session, text):
    """The stop reason, or None for an answer that is none."""
    word, _, rest = text.partition(" ")
    match word:
        case "work":
            chunk(session, "first I ")
            chunk(session, "look")
            call = {"toolCallId": "call-1", "title": "Look", "kind": "read"}
            update(session, "tool_call", **call, status="pending")
            chunk(session, "hm", "agent_thought_chunk")
            update(session, "tool_call_update", toolCallId="call-1", status="completed")
            chunk(session, "then I ")
            chunk(session, "speak")
        case "hang":
            chunk(session, "hanging")
            while session not in CANCELLED:
                note(hear())
            CANCELLED.discard(session)
            return "cancelled"
        case "deaf":
            chunk(session, "deaf")
            while OPEN == "deaf":
                signal.pause()  # nor does it see the end of its input
            while True:
                hear()
        case "permit" | "permit-large":
            update(session, "tool_call", toolCallId="call-2", title="Edit it", kind=rest or "edit")
            options = [
                {"optionId": "yes", "name": "Yes", "kind": "allow_once"},
                {"optionId": "ever", "name": "Always", "kind": "allow_always"},
                {"optionId": "no", "name": "No", "kind": "reject_once"},
            ]
            call = {"toolCallId": "call-2"}
            if word == "permit-large":
                call["content"] = [{"type": "diff", "path": "/x", "newText": "x" * 2_000_000}]
            said = ask("session/request_permission", sessionId=session, toolCall=call, options=options)
            chunk(session, json.dumps(said["outcome"]))
        case "read":
            said = ask("fs/read_text_file", sessionId=session, path=rest)
            chunk(session, json.dumps(said))
        case "write":
            path, _, content = rest.partition(" ")
            said = ask("fs/write_text_file", sessionId=session, path=path, content=content)
            chunk(session, json.dumps(said))
        case "env":
            chunk(session, json.dumps(dict(os.environ)))
        case "die":
            print(f"about to die of {rest}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGABRT) if rest == "signal" else os._exit(3)
        case "child":  # one in its group, one that left it
            same = subprocess.Popen(["sleep", "1000"])
            apart = subprocess.Popen(["sleep", "1001"], start_new_session=True)
            chunk(session, json.dumps([os.getpid(), same.pid, apart.pid]))
        case "garbage":
            print("this is\nno protocol\n[1, 2]\n7")
            chunk(session, "none the worse")
        case "odd":  # what no client knows, with a secret in it
            secret = os.environ.get("STUB_KEY")
            update(session, "of_a_later_version", secret=secret)
            say(method="session/update", params={"nothing": secret})
            say(method="of/a/later/version", params={"secret": secret})
            say(id=[1], result={"secret": secret})
            ask("terminal/create", sessionId=session, command=secret)
            ask("fs/read_text_file", path=7, secret=secret)
            chunk(session, "none the worse")
        case "close":
            os.close(1)
            signal.pause()
        case "flood":  # many questions, no answer is read
            asked = {"sessionId": session, "path": rest}
            for number in range(4000):
                say(id=f"flood-{number}", method="fs/read_text_file", params=asked)
                if number == 200:
                    Path("flooded").touch()
            signal.pause()
        case "long":
            chunk(session, "x" * int(rest))
        case "nan":  # Python writes it, and no JSON has it
            update(session, "usage_update", used=float("nan"), size=1)
            ask("fs/read_text_file", sessionId=session, path="there", limit=float("nan"))
        case "refuse":
            return "refusal"
        case "wrong":
            return None
        case "remember":
            chunk(session, json.dumps(json.loads(memory(session).read_text())))
        case _:
            chunk(session, f"you said {text}")
    return "end_turn"


def main():
    if OPEN == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if OPEN == "fail":
        print("cannot open: no such thing", file=sys.stderr)
        sys.exit(7)
    Path(f"started-{os.getpid()}").touch()
    while True:
        message = hear()
        number, params = message.get("id"), message.get("params") or {}
        match message.get("method"):
            case "initialize":
                if OPEN == "hang":
                    signal.pause()
                while OPEN == "wait" and not Path(os.environ["STUB_GATE"]).exists():
                    select.select([], [], [], 0.01)
                version = 99 if OPEN == "version" else params["protocolVersion"]
                can = {"loadSession": LOADS}
                logins = [{"id": "key", "name": "A key"}] if OPEN == "login" else []
                say(
                    id=number,
                    result={"protocolVersion": version, "agentCapabilities": can, "authMethods": logins},
                )
            case "session/new":
                if OPEN == "stuck" and not Path("unstuck").exists():
                    Path("stuck").touch()
                    signal.pause()
                if OPEN == "login":
                    say(id=number, error={"code": -32000, "message": "Authentication required"})
                    continue
                session = f"s{os.getpid()}"
                memory(session).write_text("[]")
                say(id=number, result={"sessionId": session})
            case "session/load":
                if not memory(params["sessionId"]).exists():
                    say(id=number, error={"code": -32602, "message": "no such session"})
                    continue
                for said in json.loads(memory(params["sessionId"]).read_text()):
                    chunk(params["sessionId"], said, "user_message_chunk")
                say(id=number, result={})
            case "session/prompt":
                session = params["sessionId"]
                text = params["prompt"][0]["text"]
                said = json.loads(memory(session).read_text())
                memory(session).write_text(json.dumps([*said, text]))
                reason = prompt(session, text)
                say(
                    id=number,
                    **({"result": {"stopReason": reason}} if reason else {"error": "out of sorts"}),
                )
            case "session/cancel":
                note(message)


main()
