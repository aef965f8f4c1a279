"""Live streams: the relay from the runtime into the feed, and one generator of bytes for each client.

Live clients are served from the feed, all from the same bytes. A client that resumes, or has fallen behind,
reads from the store in small pages until the feed has the next event. Two clients do so at a time.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from weakref import WeakValueDictionary

from .. import AsyncRuntime, Event, RuntimeClosing
from ..actors.events.buffer import missed
from ..actors.events.protocol import MISSED, Cursor
from ..actors.face.async_event_stream import AsyncEventStream
from ..paths import upwards
from .feed import CHUNK_BYTES, Feed, Place, Wanted, on_wire
from .problems import TooManyStreams
from .shares import OWNER, Shares

HEARTBEAT = 15.0
"""Seconds after which a stream without events says that it is there."""
EVENTS_IN_PAGE = 64
"""Events that are read from the store at a time; each may have a megabyte."""
READERS = 2
"""How many clients may be reading from the store at a time."""
GROUP = 32
"""Clients that are woken before others on the loop have their turn."""

LONGEST_PAUSE = 0.25
"""Seconds that news may wait for others to have had their turn."""

OPENING = b": greenroom\n"
# A comment alone, without the empty line that would end an event: some clients tell an empty event then.
HEARTBEAT_FRAME = b": heartbeat\n"


class Streams:
    """All clients that listen. `run` is its life, which ends with the runtime's."""

    def __init__(self, runtime: AsyncRuntime, *, most: int, heartbeat: float = HEARTBEAT) -> None:
        self.feed = Feed(0)
        self._runtime, self._heartbeat = runtime, heartbeat
        self._shares = Shares(most)  # of streams, and of requests that wait
        self._listening: dict[str, set[asyncio.Future[None]]] = {}  # by the path that they listen to
        self._news_of: dict[str, None] = {}  # paths whose listeners were not told of what came there
        self._waking: asyncio.Task[None] | None = None
        self._readers = asyncio.Semaphore(READERS)
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._events: AsyncEventStream
        self._over = False

    async def begin(self) -> None:
        """Once the runtime is started, before `run`: from now on no event is missed."""
        self._events = self._runtime.events()
        self.feed = Feed(await self._events.begin())

    async def run(self) -> None:
        """Relay events until the runtime closes; raises what it fails with."""
        try:
            async for event in self._events:
                self.feed.add(event)
                self._wake(upwards(event.path))
        finally:
            self._over = True
            self._wake(self._listening)

    def _wake(self, paths: Iterable[str]) -> None:
        """Have those look who listen to these paths; those who are being woken, once more."""
        news = [path for path in paths if path in self._listening]
        self._news_of.update(dict.fromkeys(news))
        if news and (self._waking is None or self._waking.done()):
            self._waking = asyncio.ensure_future(self._wake_all())

    async def _wake_all(self) -> None:
        """In groups with others' turns between them, and no more than half of the time."""
        clock = asyncio.get_running_loop().time
        while self._news_of:
            paths, self._news_of = self._news_of, {}
            begun = clock()
            waking = [each for path in paths for each in self._listening.pop(path, ())]
            for begin in range(0, len(waking), GROUP):
                for listening in waking[begin : begin + GROUP]:
                    if not listening.done():
                        listening.set_result(None)
                await asyncio.sleep(0)
            await asyncio.sleep(min(LONGEST_PAUSE, clock() - begun))

    # One client

    @property
    def open(self) -> int:
        """How many streams and waits there are."""
        return self._shares.taken

    def check_room(self, holder: str) -> None:
        """Raise `TooManyStreams` if the holder of a token may have no more."""
        if not self._shares.has_room(holder):
            raise TooManyStreams(self._no_room(), 5.0)

    def _no_room(self) -> str:
        if self.open >= self._shares.most:
            return f"{self._shares.most:,} streams and waits are open already. Close some."
        return "others need the streams and waits that are left. Close some of this token's."

    @contextmanager
    def one_more(self, holder: str = OWNER) -> Iterator[None]:
        """A stream or a wait, as long as it is open."""
        if not self._shares.take(holder):
            raise TooManyStreams(self._no_room(), 5.0)
        try:
            yield
        finally:
            self._shares.give_back(holder)

    async def tell(
        self, wanted: Wanted, since: int | None, *, follow: bool, holder: str = OWNER
    ) -> AsyncIterator[bytes]:
        """The stream of one client: events with numbers above `since`, or those from now on.

        Ends with the runtime, or without `follow` with the newest event there is. Ends at once if others
        took the last places since `check_room`: the answer has begun, and the client comes again.
        """
        reading = _OpenStream(self, wanted, since if follow else since or 0, holder)
        upto = None if follow else self.feed.last
        with (
            suppress(RuntimeClosing, TooManyStreams),
            self.one_more(holder),
            self.feed.listening(wanted.under),
        ):
            yield OPENING
            while True:
                over = self._over  # before looking: what came until then is there to be read
                portion = await reading.portion()
                if portion:
                    yield portion
                    await asyncio.sleep(0)  # others' turn, and the news that the client is gone
                if upto is not None and reading.seq >= upto:
                    return
                if portion or not reading.idle:
                    continue
                if over:
                    return
                if not await self._news(wanted.under):
                    yield HEARTBEAT_FRAME

    async def _news(self, under: str) -> bool:
        """Wait for something new at or below a path; False if there was nothing for a heartbeat's time."""
        if self._over:
            return True
        listening: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listening.setdefault(under, set()).add(listening)
        try:
            async with asyncio.timeout(self._heartbeat):
                await listening
        except TimeoutError:
            return False
        finally:
            self._stop_listening(under, listening)
        return True

    def _stop_listening(self, under: str, listening: asyncio.Future[None]) -> None:
        others = self._listening.get(under)
        if others is not None:
            others.discard(listening)
            if not others:
                del self._listening[under]

    async def page(
        self, under: str, since: int | Cursor, limit: int = EVENTS_IN_PAGE, *, holder: str = OWNER
    ) -> list[Event]:
        """The next events of the store after number `since`; the last page is shorter."""
        # One reader for each token: a token with many streams is not to be before all others.
        turn = self._turns.get(holder)
        if turn is None:
            turn = self._turns[holder] = asyncio.Semaphore(1)
        async with turn, self._readers:
            stream = AsyncEventStream(self._runtime, under, since, follow=False)
            stream.page = limit
            found: list[Event] = []
            async for event in stream:
                found.append(event)
                if len(found) == limit:
                    break
            await stream.aclose()
            return found


class _OpenStream:
    """How far one client has read: at a place of the feed, or up to a number in the store."""

    def __init__(self, streams: Streams, wanted: Wanted, since: int | None, holder: str) -> None:
        self._streams, self._wanted, self._holder = streams, wanted, holder
        feed = streams.feed
        self.seq = feed.last if since is None else since
        self.idle = False  # there was nothing to read
        self._place: Place | None = feed.end if since is None else None
        self._all_kept = since == 0  # it begins with the oldest event there is, so that none is missing

    async def portion(self) -> bytes:
        """The events to send next; empty if nothing of what was looked at is wanted."""
        feed = self._streams.feed
        if self.seq > feed.last:  # a number of another store, or of an end that was lost
            news = missed(feed.last, self.seq, None, under=self._wanted.under, now=time.time())
            self.seq, self._place = feed.last, feed.end
            return on_wire(Event.of(news))
        if self._place is None:
            self._place = feed.after(self.seq)
        read = None if self._place is None else feed.read(self._place, self._wanted)
        if read is None:  # it was too slow for the feed, or comes from before it
            self._place, self.idle = None, False
            return await self._older()
        found, place = read
        self.idle = place == self._place
        self._place, self.seq = place, max(self.seq, feed.seq_before(place))
        return b"".join(found)

    async def _older(self) -> bytes:
        """A portion from the store, which begins with what it cannot tell any more."""
        feed = self._streams.feed
        all_told = feed.last
        since = 0 if self._all_kept else (self.seq, 0)
        page = await self._streams.page(self._wanted.under, since, holder=self._holder)
        self._all_kept = False
        found: list[bytes] = []
        size = 0
        for event in page:
            if event.seq > all_told:
                break  # the feed is about to have it
            if event.type == "store.failing":
                continue  # it is told live only
            if size >= CHUNK_BYTES:
                return b"".join(found)  # the rest is read again: nothing is kept for a slow client
            self.seq = event.seq
            if event.type == MISSED:
                return on_wire(event)  # whatever is wanted: nobody knows what it was
            if self._wanted.has(event):
                found.append(on_wire(event))
                size += len(found[-1])
        if len(page) < EVENTS_IN_PAGE or page[-1].seq > all_told:
            self.seq = max(self.seq, all_told)  # up to there all was looked at
        return b"".join(found)
