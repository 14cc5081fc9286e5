"""A line whose slots are those of all processes that share a store: blocks, taken from the ledger that is there."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

from tribe_oauth._limit.block import Block, life_of
from tribe_oauth._limit.kept import KeptLedger, StoreTime
from tribe_oauth._limit.ledger import COVER, Ledger
from tribe_oauth._limit.line import Line, Lot, Terms
from tribe_oauth.errors import StoreError
from tribe_oauth.stores import SlotStore

RETRY: Final = 2.0
"""Seconds from one look for a store that is away to the next."""
_PARTS: Final = 16
"""A block has this small a part of all slots at most: others want some, too."""


_Told = tuple[Block, int, list[float]]
"""A block, how many of its slots may still be used, and the moments of its answers: as the store is told."""


class SharedLine(Line):
    """`key`: the ledger's, in the store. `away` is told each time the store fails."""

    def __init__(
        self, terms: Terms, organization: str, key: str, store: SlotStore, away: Callable[[StoreError], object]
    ) -> None:
        super().__init__(terms, organization)
        self._kept = KeptLedger(store, key, terms.clock, COVER + terms.limit.seconds + terms.quiet)
        self._tell_away = away
        self._need = [1, 1]
        self._life = life_of(terms)
        self._closed = False
        self._forget()

    def _forget(self) -> None:
        self._open: list[Block | None] = [None, None]  # people's, and the background's
        self._blocks: dict[str, Block] = {}  # all that something is sent from, or was and may be answered
        self._ended: list[Block] = []  # those that are over, which the store does not know yet
        self._mine: deque[float] = deque()  # the ends of this process's slots that it knows
        self._news: Literal["stop", "go on"] | None = None
        self._again = [0.0, 0.0]  # when to ask for slots again
        self._share: int | None = None  # with how many this process goes on, while the store is away
        self._working: asyncio.Task[None] | None = None
        self._look: asyncio.TimerHandle | None = None

    def take(self, background: bool) -> Lot | None:
        """See `Line.take`."""
        if self.refusals or self._waiting[0] or self._waiting[1]:
            return None
        block = self._open[background]
        return block if block is not None and block.give(self._monotonic()) else None

    def _give(self, background: bool, now: float) -> Lot | None:
        block = self._open[background]
        if block is not None and block.give(now):
            return block
        self._close_block(background)
        if self._share is None or (slots := min(self._wanted(background), self._share - self._held(now))) <= 0:
            return None
        block = self._block(background, slots)
        self._begin(block)
        return block if block.give(now) else None

    def _more_in(self, now: float) -> float | None:
        ask = min(self._again[kind] for kind in (0, 1) if self._waiting[kind])
        if ask <= now:
            self._work()
        if self._share is not None:
            return max(min([now + RETRY, *self._mine]) - now, 0.0)
        return None if self._working is not None else ask - now

    # Blocks

    def _wanted(self, background: bool) -> int:
        waiting = sum(not waiter.turn.done() for waiter in self._waiting[background])
        return waiting and min(max(waiting, self._need[background]), max(1, self.terms.limit.calls // _PARTS))

    def _block(self, background: bool, slots: int) -> Block:
        return Block(self, background, slots, self._block_ended)

    def _begin(self, block: Block) -> None:
        self._open[block.background] = self._blocks[block.name] = block
        block.opened = block.told = self._monotonic()
        self._look_later()

    def _close_block(self, background: bool) -> None:
        block, self._open[background] = self._open[background], None
        if block is not None:
            self._need[background] = block.need(self._monotonic())
            block.close()

    def _block_ended(self, block: Block) -> None:
        if self._blocks.pop(block.name, None) is not None:  # and it was not forgotten with its event loop
            self._ended.append(block)
            self._look_later()

    def _held(self, now: float) -> int:
        """Slots that this process holds."""
        while self._mine and self._mine[0] <= now:
            self._mine.popleft()
        began = now - self.terms.limit.seconds
        blocks = [*self._blocks.values(), *self._ended]
        return sum(block.held + sum(at > began for at in block.spent) for block in blocks) + len(self._mine)

    def _look_later(self) -> None:
        """Look after the blocks when the next of them needs it. What has ended is told with that."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        now = self._monotonic()
        moments = [block.look_at for block in self._blocks.values()]
        if self._ended:
            moments.append(now + self._life)
        if moments and not self._closed:
            first = max(min(moments), now if self._share is None else min(self._again))
            self._look = asyncio.get_running_loop().call_later(first - now, self._look_after)

    def _look_after(self) -> None:
        now = self._monotonic()
        for background in (False, True):
            block = self._open[background]
            if block is not None and now >= block.look_at:
                self._close_block(background)
        if self._ended or any(block.closed and block.has_news(now) for block in self._blocks.values()):
            self._work()
        if self._working is None:
            self._look_later()

    # A 429

    def stopped(self) -> None:
        """See `Line.stopped`. Nothing is sent from a block any more, and all processes hear of it."""
        self._news = "stop"
        self._stop_here()
        self._work()

    def _stop_here(self) -> None:
        for background in (False, True):
            self._close_block(background)
        super().stopped()

    def _accepted(self) -> None:
        self._news = "go on"
        self._again = [0.0, 0.0]
        super()._accepted()
        self._work()

    def _heard(self, ledger: Ledger, ahead: float) -> None:
        """What other processes were answered. `ahead`: what to add to this process's time for the store's."""
        if self._news is not None:
            return  # this process knows something newer
        until = ledger.until - ahead
        if ledger.refusals > self.refusals or (ledger.refusals and until > self.until + 1.0):
            self.refusals, self.until = ledger.refusals, until
            if self._monotonic() < until:
                self._stop_here()
        elif self.refusals and not ledger.refusals:
            super()._accepted()

    # The store

    def _work(self) -> None:
        if self._working is None and not self._closed:
            # Not by the loop's own factory: an eager task could end before it is known here.
            self._working = asyncio.Task(self._run(), loop=asyncio.get_running_loop())

    async def _run(self) -> None:
        try:
            await self._update()
            self._share = None
        except StoreError as error:
            now, seconds = self._monotonic(), self.terms.limit.seconds
            if self._share is None:
                self._share = max(self._held(now), self.terms.limit.kept, 1)
            self._again = [now + RETRY, now + RETRY]
            self._ended = [block for block in self._ended if now < max([block.told + COVER, *block.spent]) + seconds]
            self._tell_away(error)
        finally:
            self._working = None
        if self._news is not None and self._share is None:
            self._work()
        self.serve()
        self._look_later()

    async def _update(self) -> None:
        """Tell the store what has become of blocks, and take others. Raises StoreError."""
        now, news = self._monotonic(), self._news
        blocks = [block for block in [*self._blocks.values(), *self._ended] if block.has_news(now)]
        told = [(block, block.held, block.spent) for block in blocks]
        self._ended, self._news = [], None
        for block in blocks:
            block.spent = []
        taken: list[Block] = []
        try:
            ledger, ahead = await self._kept.change(partial(self._change, told, news, taken))
        except (StoreError, asyncio.CancelledError):
            # It is not known whether that was written. Told twice, slots are held for longer, and never for less.
            for block, _, spent in told:
                block.spent = spent + block.spent
            known = {id(block) for block in self._ended}
            self._ended += [block for block in [*blocks, *taken] if not block.held and id(block) not in known]
            self._news = self._news or news
            raise
        now = self._monotonic()
        for block, held, spent in told:
            block.told, block.known = now, held
            self._mine += [at + self.terms.limit.seconds for at in spent]
        for block in taken:
            self._begin(block)
        if any(self._again):
            self._kept.forget()
        self._heard(ledger, ahead.least)

    def _change(
        self,
        told: list[_Told],
        news: str | None,
        taken: list[Block],
        ledger: Ledger,
        ahead: StoreTime,
        now: float,
    ) -> None:
        limit = self.terms.limit
        for block, held, spent in told:
            ends = [at + limit.seconds + ahead.most for at in spent]
            ledger.tell(block.name, block.background, held, ends, limit, now)
        if news == "stop":
            ledger.stop(self.refusals, self.until + ahead.most)
        elif news == "go on":
            ledger.go_on()
        taken[:] = self._taken(ledger, now)

    def _taken(self, ledger: Ledger, now: float) -> list[Block]:
        """A block for each kind of request that waits and has none, as far as there are slots."""
        taken, here = [], self._monotonic()
        for background in (False, True):
            open_block = self._open[background]
            has_some = open_block is not None and open_block.left > 0
            wanted = 0 if has_some else self._wanted(background)
            if not wanted or self._probe is not None or here < self.until:
                continue
            block = self._block(background, wanted)
            granted = block.left = block.known = ledger.take(block.name, background, wanted, self.terms.limit, now)
            more_in = ledger.more_in(now, self._life) + self._kept.crowd * self.terms.clock.random()
            self._again[background] = here + more_in if granted < wanted else 0.0
            if granted:
                taken.append(block)
        return taken

    # The line itself

    def _is_used(self, now: float) -> bool:
        return bool(self._blocks or self._ended or self._working or self._news or self._held(now))

    def forget_loop(self) -> None:
        """See `Line.forget_loop`. In a forked child, the blocks are its parent's."""
        super().forget_loop()
        self._forget()

    async def close(self) -> None:
        """See `Line.close`. What was not used goes back; what is still in flight ends by the store's clock."""
        await super().close()
        for background in (False, True):
            self._close_block(background)
        if self._look is not None:
            self._look.cancel()
        self._closed = True
        if self._working is not None:
            await self._working
        if self._ended or self._blocks:
            try:
                await self._update()
            except StoreError as error:  # it all ends by itself
                self._tell_away(error)
