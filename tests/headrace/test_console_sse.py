"""The hub: ids, what was missed, and bounds."""

import asyncio

import orjson
import pytest

from headrace.console.sse import HEARTBEAT, Hub, HubLimits, TooManyListeners

STATE = {"all": "of it"}


def read(listener, count):
    """The next frames, as (id, event, data)."""

    async def run():
        found, frames = [], listener.frames()
        async with asyncio.timeout(10):
            while len(found) < count:
                frame = await anext(frames)
                if frame.startswith(b"id: "):
                    lines = dict(line.split(b": ", 1) for line in frame.strip().split(b"\n"))
                    found.append((lines[b"id"].decode(), lines[b"event"].decode(), orjson.loads(lines[b"data"])))
        return found

    return asyncio.run(run())


def hub(**limits):
    return Hub(lambda: STATE, HubLimits(**limits))


def listen(made, last_id=None, cut=lambda: None):
    return made.listen(last_id, cut)


def test_a_new_page_gets_the_state_and_then_the_events():
    """In their order, each with an id of its own."""
    made = hub()
    made.publish("rates", 1)
    page = listen(made)
    made.publish("rates", 2)
    made.publish("lag", 3)
    first, second, third = read(page, 3)
    assert [one[1:] for one in (first, second, third)] == [("state", STATE), ("rates", 2), ("lag", 3)]
    assert len({first[0], second[0], third[0]}) == 3


def test_a_page_that_comes_back_gets_what_it_missed_and_nothing_twice():
    """From the id that it saw last, the state's too."""
    made = hub()
    page = listen(made)
    for number in range(5):
        made.publish("rates", number)
    seen = read(page, 3)
    for last, missed in ((seen[0], [0, 1, 2, 3, 4]), (seen[1], [1, 2, 3, 4]), (seen[2], [2, 3, 4])):
        again = listen(made, last[0])
        assert [one[2] for one in read(again, len(missed))] == missed
    newest = read(listen(made, seen[2][0]), 3)[-1][0]
    up_to_date = listen(made, newest)
    made.publish("rates", 5)
    assert [one[2] for one in read(up_to_date, 1)] == [5]


@pytest.mark.parametrize(
    "last", ["", "1", "-", "other-9", "{epoch}-", "{epoch}-x", "{epoch}--1", "{epoch}-999", "{epoch}-²", "{epoch}-0"]
)
def test_whoever_missed_more_than_is_remembered_gets_the_state(last):
    """Ids of another console, of the future, of long ago, and no ids at all."""
    made = hub(ring=3)
    for number in range(10):
        made.publish("rates", number)
    epoch = read(listen(made), 1)[0][0].split("-")[0]
    assert [one[1:] for one in read(listen(made, last.format(epoch=epoch)), 1)] == [("state", STATE)]


def test_the_ring_reaches_back_exactly_as_far_as_it_holds():
    """The last id that can be resumed from, and the one before."""
    made = hub(ring=3)
    for number in range(1, 11):
        made.publish("rates", number)
    epoch = read(listen(made), 1)[0][0].split("-")[0]
    assert [one[2] for one in read(listen(made, f"{epoch}-7"), 3)] == [8, 9, 10]
    assert read(listen(made, f"{epoch}-6"), 1)[0][1] == "state"


def test_a_page_that_takes_nothing_is_cut_off():
    """At its bound; the others lose nothing."""
    made = hub(waiting=3)
    cut = []
    listen(made, cut=lambda: cut.append("slow"))
    for number in range(3):
        made.publish("rates", number)
    assert cut == []
    quick = listen(made, cut=lambda: cut.append("quick"))
    made.publish("rates", 3)
    made.publish("rates", 4)
    assert cut == ["slow"]
    assert [one[2] for one in read(quick, 3)] == [STATE, 3, 4]


def test_no_more_pages_listen_than_there_is_room_for():
    """Who leaves, or is cut off, makes room."""
    made = hub(listeners=2, waiting=1)
    first = listen(made)
    listen(made)
    with pytest.raises(TooManyListeners, match="2 pages"):
        listen(made)
    made.leave(first)
    listen(made)
    made.publish("rates", 1)
    made.publish("rates", 2)
    listen(made)
    listen(made)


def test_a_silent_stream_beats():
    """So that a connection that died is found out."""

    async def run():
        frames = listen(hub(heartbeat_s=0.01)).frames()
        return [await anext(frames) for _ in range(4)][2:]

    assert asyncio.run(run()) == [HEARTBEAT, HEARTBEAT]


def test_a_hub_that_closes_ends_every_stream():
    """After what it had to say."""

    async def run():
        made = hub()
        page = listen(made)
        made.publish("rates", 1)
        made.close()
        async with asyncio.timeout(10):
            return [frame async for frame in page.frames()]

    assert len(asyncio.run(run())) == 3


def test_a_line_break_in_a_field_breaks_no_frame():
    """Nobody's payment id can make an event of its own."""
    made = hub()
    page = listen(made)
    made.publish("rates", {"id": "x\n\nevent: problems\ndata: {}\n\r\n"})
    assert read(page, 2)[1][1:] == ("rates", {"id": "x\n\nevent: problems\ndata: {}\n\r\n"})
