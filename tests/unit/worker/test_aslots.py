"""How many runs a process with many slots may begin while some of its runs wait for others."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack

from worker.aslots import Slot, Slots

NOTHING = tuple
"""What is waited for does not matter here."""


def on_a_loop(story: Callable[[Callable[[int, int], Slots]], Coroutine[None, None, None]]) -> None:
    async def tell() -> None:
        await story(lambda slots, places: Slots(slots, places, asyncio.Event(), asyncio.get_running_loop()))

    asyncio.run(tell())


async def heard() -> None:
    """What was told to the loop has arrived."""
    await asyncio.sleep(0)


def test_a_run_that_waits_gives_its_slot_back_until_all_its_waits_are_over() -> None:
    async def story(make: Callable[[int, int], Slots]) -> None:
        slots, told = make(2, 100), []
        first, _ = slots.take(), slots.take()
        told.append(slots.free())
        with first.lent(NOTHING):
            with first.lent(NOTHING):
                await heard()
                told.append(slots.free())
            await heard()
            told.append(slots.free())
        await heard()
        told.append(slots.free())
        assert told == [0, 1, 1, 0]

    on_a_loop(story)


def test_half_of_the_places_are_kept_for_what_is_waited_for() -> None:
    async def story(make: Callable[[int, int], Slots]) -> None:
        slots, told = make(1, 50), []
        with ExitStack() as waiting:
            while slots.free():
                waiting.enter_context(slots.take().lent(NOTHING))
                await heard()
            told.append((slots.present, slots.free_for_awaited()))
            await slots.mark()
            told.append((slots.present, slots.free_for_awaited()))
            slots.look_again()
            while slots.free_for_awaited():
                waiting.enter_context(slots.take().lent(NOTHING))
                await heard()
            told.append((slots.present, slots.free()))
        assert told == [(25, 1), (25, 0), (50, 0)]

    on_a_loop(story)


def test_where_nobody_waits_there_is_nothing_to_begin_beyond_the_slots() -> None:
    async def story(make: Callable[[int, int], Slots]) -> None:
        slots = make(1, 50)
        slots.take()
        slots.look_again()
        assert (slots.free(), slots.free_for_awaited()) == (0, 0)

    on_a_loop(story)


def test_threads_that_wait_longer_than_their_run_lend_nothing() -> None:
    async def wait_on(slot: Slot, slots: Slots) -> int:
        with slot.lent(NOTHING):
            await heard()
            return slots.free()

    async def story(make: Callable[[int, int], Slots]) -> None:
        slots = make(1, 50)
        slot = slots.take()
        slots.give_back(slot)
        slots.take()
        assert await wait_on(slot, slots) == 0

    on_a_loop(story)
