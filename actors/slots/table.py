"""The slot table: which lease holds a slot, which waits, and whose turn is next.

It owns the count of slots and the queue of those who wait. It does not know what a slot is used
for, nor whether a holder is alive: it is told. Every operation is O(1), `describe` aside.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

from ...paths import tree_of
from ...types import Address, AgentId, Incarnation, RequestId, Timestamp
from ..effects import Effect, Send
from ..fair_queue import FairQueue
from .protocol import Lease, SlotGranted, SlotReport

MAX_ENDED = 1024
"""How many ended holders are remembered."""
MAX_HOLDERS = 100
"""How many holders a report names."""


class _SlotRequest:
    """One lease that holds a slot or waits for one."""

    __slots__ = ("lease", "path", "reply_to", "since", "waits")

    def __init__(self, lease: Lease, path: str, reply_to: Address, since: Timestamp) -> None:
        self.lease = lease
        self.path = path
        self.reply_to = reply_to
        self.since = since
        self.waits = False


class SlotTable:
    """The holders of slots: in turn between the trees, and within one first come, first served.

    A turn that goes on and a continuation come before what is new, as `FairQueue` says.

    A table without slots makes everybody wait, so nothing depends on being configured first.
    """

    __slots__ = ("_agents", "_ended", "_holding", "_slots", "_waiting")

    def __init__(self, slots: int = 0) -> None:
        self._slots = slots
        self._holding: dict[Lease, _SlotRequest] = {}  # longest first
        self._waiting: FairQueue[Lease, _SlotRequest] = FairQueue()
        self._agents: dict[AgentId, dict[Lease, _SlotRequest]] = {}
        # A session that crashed may have asked for a slot. That message may arrive after the news of
        # its end, which comes from another actor; a slot that is granted then would never come back.
        # So the ended incarnation is remembered, for the last thousand of such ends. Only crashes are
        # told here, as a session that ends in order gives back its own lease. A message would have to
        # be a thousand crashes late.
        self._ended: OrderedDict[AgentId, Incarnation] = OrderedDict()

    def resize(self, slots: int) -> Sequence[Effect]:
        """Set how many slots there are. Holders keep theirs, also when there are fewer now."""
        self._slots = slots
        return self._fill()

    def acquire(
        self, lease: Lease, path: str, reply_to: Address, *, goes_on: bool = False, now: Timestamp
    ) -> Sequence[Effect]:
        """Grant a slot to `lease`, or let it wait for one."""
        agent_id = lease.agent_id
        claims = self._agents.get(agent_id)
        if claims is not None and lease in claims:
            return ()
        if self._ended and self._ended.get(agent_id, -1) >= lease.incarnation:
            return ()
        claim = _SlotRequest(lease, path, reply_to, now)
        if claims is None:
            self._agents[agent_id] = {lease: claim}
        else:
            claims[lease] = claim
        if len(self._holding) < self._slots:  # then nobody waits
            self._holding[lease] = claim
            return (Send(reply_to, SlotGranted(lease)),)
        claim.waits = True
        self._waiting.push(lease, claim, tree_of(path), goes_on=goes_on)
        return ()

    def release(self, lease: Lease) -> Sequence[Effect]:
        """End `lease`, whether it holds a slot or waits."""
        claim = self._agents.get(lease.agent_id, {}).get(lease)
        if claim is None:
            return ()
        self._drop(claim)
        return self._fill()

    def end_holder(self, agent_id: AgentId, incarnation: Incarnation) -> Sequence[Effect]:
        """End the leases of a crashed session and of older ones, also those still on their way."""
        if self._ended.get(agent_id, -1) < incarnation:
            self._ended[agent_id] = incarnation
            self._ended.move_to_end(agent_id)
            if len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)
        # All go before anybody is served, else one of them might be granted the slot of another.
        for claim in list(self._agents.get(agent_id, {}).values()):
            if claim.lease.incarnation <= incarnation:
                self._drop(claim)
        return self._fill()

    def describe(
        self, request: RequestId, reply_to: Address, agent_id: AgentId | None = None
    ) -> Sequence[Effect]:
        """Report who holds and how many wait; O(waiting trees + place) when `agent_id` waits."""
        claim = self._waiting_claim(agent_id) if agent_id is not None else None
        report = SlotReport(
            request,
            slots=self._slots,
            granted=len(self._holding),
            waiting=len(self._waiting),
            holders=tuple(claim.path for claim in islice(self._holding.values(), MAX_HOLDERS)),
            place=None if claim is None else self._waiting.place(claim.lease),
            since=None if claim is None else claim.since,
        )
        return (Send(reply_to, report),)

    def _waiting_claim(self, agent_id: AgentId) -> _SlotRequest | None:
        claims = self._agents.get(agent_id, {}).values()
        return next((claim for claim in claims if claim.waits), None)

    def _drop(self, claim: _SlotRequest) -> None:
        """Take a claim out of all tables."""
        lease = claim.lease
        claims = self._agents[lease.agent_id]
        del claims[lease]
        if not claims:
            del self._agents[lease.agent_id]
        if not self._waiting.remove(lease):
            del self._holding[lease]

    def _fill(self) -> Sequence[Effect]:
        """Grant the free slots to those who wait."""
        effects: list[Effect] = []
        while self._waiting and len(self._holding) < self._slots:
            claim = self._waiting.take()
            claim.waits = False
            self._holding[claim.lease] = claim
            effects.append(Send(claim.reply_to, SlotGranted(claim.lease)))
        return effects
