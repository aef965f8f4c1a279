"""The room's hands: the reaper, made when it is first needed, and the socket to it.

All on the loop. The reaper's news come out as `ReaperNews`. Packets that the socket does not take at
once wait here; the reaper is quick, so they are few.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .protocol import (
    Exited,
    Failed,
    Forked,
    ForkProcess,
    Gone,
    NotSignalled,
    ReaperLost,
    ReaperNews,
    Running,
)

SCRIPT = Path(__file__).with_name("reaper.py")
LARGEST_MESSAGE = 65_536
"""Bytes of a packet from the reaper; it cuts what it tells."""

_NEWS: dict[str, Callable[..., ReaperNews]] = {
    "forked": Forked,
    "failed": Failed,
    "running": Running,
    "exited": Exited,
    "gone": Gone,
    "stuck": NotSignalled,
}


class ReaperClient:
    """One reaper at a time, for one room."""

    def __init__(self, token: str, heard: Callable[[ReaperNews], None]) -> None:
        self._token, self._heard = token, heard
        self._loop = asyncio.get_running_loop()
        self._channel: socket.socket | None = None
        self._warden: subprocess.Popen[bytes] | None = None
        self._unsent: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._asked: dict[int, None] = {}  # of this reaper, and not gone

    def fork(self, order: ForkProcess) -> None:
        """Have a program forked, up to its gate. The streams are the reaper's from here on."""
        program = order.program
        description = {
            "argv": program.argv,
            "env": program.env,
            "cwd": program.cwd,
            "limits": program.limits,
        }
        made: list[int] = []
        try:
            spec = os.memfd_create("greenroom")  # and not in the packet: those are small
            made.append(spec)
            with open(os.dup(spec), "wb") as file:
                file.write(json.dumps(description).encode())
            self._start()
        except OSError as error:
            close_streams((*order.streams, *made))
            self._heard(Failed(order.number, f"no process can be started: {error.strerror or error}"))
            return
        self._asked[order.number] = None
        self._send(["fork", order.number, order.mark], (spec, *order.streams))

    def go(self, number: int) -> None:
        """Open a gate."""
        self._send(["go", number])

    def signal(self, number: int, signum: int) -> None:
        """Signal a process and all that it started."""
        self._send(["end", number, int(signum)])

    def dismiss(self) -> None:
        """The reaper ends what it still has, and goes; it is waited for aside, not to leave a zombie."""
        self._hang_up()
        warden, self._warden = self._warden, None
        if warden is not None:
            threading.Thread(target=warden.wait, name="greenroom farewell", daemon=True).start()

    async def gone(self) -> None:
        """Dismiss the reaper, and wait until it has gone, if that is soon."""
        self._hang_up()
        warden = self._warden
        if warden is not None:
            for _ in range(200):
                if warden.poll() is not None:
                    break
                await asyncio.sleep(0.005)
        self.dismiss()

    # The socket

    def _start(self) -> None:
        if self._channel is not None:
            return
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            try:
                self._warden = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(SCRIPT), str(its.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # or whoever reads ours to its end would wait for the reaper
                    pass_fds=[its.fileno()],
                    env={"GREENROOM_WARDEN": self._token},
                    cwd="/",
                    start_new_session=True,  # the terminal's signals are the runtime's to deal with
                )
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        self._channel = ours
        self._loop.add_reader(ours.fileno(), self._readable)

    def _readable(self) -> None:
        channel = self._channel
        while channel is not None and channel is self._channel:
            try:
                packet = channel.recv(LARGEST_MESSAGE)
            except BlockingIOError:
                return
            except ConnectionError:
                packet = b""
            if not packet:
                self._lost()
                return
            what, *words = json.loads(packet)
            news = _NEWS[what](*words)
            if isinstance(news, Gone):
                self._asked.pop(news.number, None)
            self._heard(news)

    def _lost(self) -> None:
        asked, self._asked = self._asked, {}
        self.dismiss()
        self._heard(ReaperLost(tuple(asked)))

    def _send(self, words: list[Any], descriptors: tuple[int, ...] = ()) -> None:
        if self._channel is None:
            close_streams(descriptors)
            return  # it is lost, which was told
        self._unsent.append((json.dumps(words).encode(), descriptors))
        if len(self._unsent) == 1:
            self._writable()

    def _writable(self) -> None:
        channel = self._channel
        assert channel is not None
        while self._unsent:
            packet, descriptors = self._unsent[0]
            try:
                if descriptors:
                    socket.send_fds(channel, [packet], descriptors)
                else:
                    channel.send(packet)
            except BlockingIOError:
                self._loop.add_writer(channel.fileno(), self._writable)
                return
            except OSError:  # the end of the socket is read as well
                pass
            self._unsent.popleft()
            close_streams(descriptors)
        self._loop.remove_writer(channel.fileno())

    def _hang_up(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            self._loop.remove_reader(channel.fileno())
            self._loop.remove_writer(channel.fileno())
            channel.close()
        while self._unsent:
            close_streams(self._unsent.popleft()[1])


def close_streams(descriptors: tuple[int, ...]) -> None:
    """Let go of descriptors that nobody will get."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
