"""Generator and observer of the open loop, without Kafka."""

from time import time_ns

import pytest

from benchmarks import generator, load, observe
from benchmarks.generator import Payloads, Score
from benchmarks.histogram import MOST_US, Histogram
from benchmarks.latency import Timing, achieved, scores
from schemas import codec
from schemas.events import Micros, PaymentEvent, Status
from schemas.keys import partition_of
from topologies import topics

SCORE = Score("constant", 1_000, 0.05, 20, 4, 1)


class Client:
    """Takes records as the generator's client does; refuses those that are named."""

    def __init__(self, refuses=()):
        self.taken, self.refuses, self.asked = [], set(refuses), 0
        self.dropped = 0

    def send(self, key, value):
        number, self.asked = self.asked, self.asked + 1
        if number in self.refuses:
            self.dropped += 1
            return False
        self.taken.append((key, value, time_ns() // 1_000))
        return True

    def serve(self):
        pass

    def close(self):
        pass


def late_of(sent):
    late = Histogram()
    late.merge(sent.late)
    return late


def test_all_payloads_are_made_a_second_before_the_start():
    """Nothing is encoded while the clock runs, and each says its own moment."""
    payloads = generator.made(SCORE)
    assert payloads.start - time_ns() // 1_000 > generator.LEAD_US - 200_000
    decode = codec.decoder(topics.INTENTS.subject)
    intents = [decode(value) for value in payloads.values]
    assert [one.requested_at - payloads.start for one in intents] == payloads.moments
    assert [one.debtor.encode() for one in intents] == payloads.keys
    assert len(intents) == 50


def test_a_start_that_comes_too_near_is_chosen_anew(monkeypatch):
    """Encoding may take longer than was thought; then there is a new start and all is made again."""
    real, calls = load.timed, []

    def slow(moments, start, accounts, seed):
        calls.append(start)
        yield from real(moments, start, accounts, seed)

    monkeypatch.setattr(generator.load, "timed", slow)
    clock = iter([0, 10**10, 10**10, 10**10 + 1])  # the first making takes ten seconds
    monkeypatch.setattr(generator, "time_ns", lambda: next(clock))
    payloads = generator.made(SCORE)
    assert len(calls) == 2
    assert payloads.start == calls[1] >= 10**7 + generator.LEAD_US + 2 * 10**7


def payloads_from(start):
    moments = load.schedule("constant", 1_000, 0.05, 1)
    intents = list(load.timed(moments, start, 20, 1))
    return Payloads(start, moments, [one.debtor.encode() for one in intents], [codec.encode(one) for one in intents])


def test_nothing_is_sent_before_its_moment():
    """An early send would make latency look shorter."""
    payloads, client = payloads_from(Micros(time_ns() // 1_000 + 20_000)), Client()
    generator.play(SCORE, payloads, client)
    for moment, (_, _, at) in zip(payloads.moments, client.taken, strict=True):
        assert at >= payloads.start + moment - generator.NAP_US


def test_what_is_behind_its_moment_is_sent_and_counted_as_late():
    """All moments have passed by a second: all go out, and all are late by at least that."""
    payloads, client = payloads_from(Micros(time_ns() // 1_000 - 1_000_000)), Client()
    sent = generator.play(SCORE, payloads, client)
    assert len(client.taken) == sent.offered == 50
    assert late_of(sent).at(0.1) >= 940


def test_a_refused_send_is_dropped_and_not_sent_again():
    """Two of fifty are refused: they are on no partition."""
    payloads, client = payloads_from(Micros(time_ns() // 1_000 - 1_000_000)), Client(refuses=[3, 7])
    sent = generator.play(SCORE, payloads, client)
    assert (sent.offered, sent.dropped, sum(sent.by_partition)) == (50, 2, 48)
    assert client.asked == 50


def test_the_client_refuses_what_its_queue_does_not_hold_and_what_never_arrives_is_dropped_too():
    """A real client, a queue of one, and no broker: one record waits for ever, the others are refused at once."""
    nowhere = {"bootstrap.servers": "127.0.0.1:1", "queue.buffering.max.messages": 1, "log_level": 0}
    sending = generator.Sending(generator.OPTIONS | nowhere, "payments.intents")
    assert [sending.send(b"k", b"v") for _ in range(3)] == [True, False, False]
    assert sending.dropped == 2
    sending.close(0.1)
    assert sending.dropped == 3


def test_what_was_sent_is_counted_by_the_partition_that_it_goes_to():
    """The observer is told how many events to wait for on its own."""
    payloads, client = payloads_from(Micros(time_ns() // 1_000 - 1_000_000)), Client()
    sent = generator.play(SCORE, payloads, client)
    where = [partition_of(key.decode(), 4) for key, _, _ in client.taken]
    assert sent.by_partition == [where.count(number) for number in range(4)]


def event(moment, status=Status.COMPLETED):
    (intent,) = load.timed([0], Micros(moment), 10, 1)
    return codec.encode(
        PaymentEvent("e", "p", intent.intent_id, 1, status, "d", "c", intent.amount_minor, "EUR", Micros(moment))
    )


def observed(*events):
    observation = observe.Observation(observe.Window(Micros(1_000_000), Micros(3_000_000)))
    for moment, seen_at, *status in events:
        observation.add(event(moment, *status), seen_at)
    seen = observation.seen(0.0)
    halves = Histogram(), Histogram()
    for half, data in zip(halves, seen.halves, strict=True):
        half.merge(data)
    return seen.events, *halves


def test_latency_runs_from_the_intended_moment():
    """Sent when it may, seen 40 ms after it was to be sent."""
    _, first, _ = observed((1_000_000, 1_040_000))
    assert first.at(50.0) == pytest.approx(40, rel=0.001)


def test_warm_up_and_end_are_counted_but_not_measured():
    """The window has its begin and not its end."""
    events, first, second = observed((999_999, 1_500_000), (1_000_000, 1_000_010), (2_999_999, 3_500_000), (3_000_000, 3_500_000))  # fmt: skip
    assert (events, len(first), len(second)) == (4, 1, 1)


def test_events_that_are_not_the_last_of_a_payment_do_not_count():
    """A review is no end."""
    assert observed((1_000_000, 1_000_010, Status.REVIEW))[0] == 0
    assert observed((1_000_000, 1_000_010, Status.DECLINED))[0] == 1


@pytest.mark.parametrize(
    ("partitions", "read"), [(1, [0]), (4, [0]), (8, [0]), (9, [0, 8]), (64, list(range(0, 64, 8)))]
)
def test_the_observer_reads_one_partition_in_eight_and_at_least_one(partitions, read):
    """All of them would cost as much as the broker."""
    assert list(observe.looked_at(partitions)) == read


def histogram(*millis):
    found = Histogram()
    for one in millis:
        found.add(int(one * 1_000))
    return found


def test_merged_histograms_are_as_one():
    """What two processes counted gives the percentiles of all."""
    merged, one, all_ = Histogram(), histogram(*range(1, 50)), histogram(*range(1, 101))
    merged.merge(one.encoded())
    merged.merge(histogram(*range(50, 101)).encoded())
    assert merged.summary() == all_.summary()
    assert merged.summary()["p50"] == pytest.approx(50, rel=0.001)
    assert merged.summary()["count"] == 100


def test_what_a_histogram_cannot_hold_counts_at_its_edge():
    """A clock that goes back or a stall of an hour is still one payment."""
    found = Histogram()
    found.add(-5)
    found.add(2 * MOST_US)
    assert found.summary()["count"] == 2
    assert found.summary()["max"] == pytest.approx(MOST_US / 1_000, rel=0.001)


def test_an_empty_histogram_has_no_percentile():
    """Nothing seen is not 0 ms."""
    assert Histogram().summary() == {"p50": None, "p90": None, "p99": None, "p999": None, "max": None, "count": 0}


def test_a_system_that_falls_behind_by_a_tenth_achieves_nine_tenths():
    """Over 60 s the medians of the halves are 3 s apart."""
    assert achieved(histogram(1_500), histogram(4_500), 60.0) == pytest.approx(0.9, abs=0.001)
    assert achieved(histogram(100), histogram(100), 60.0) == 1.0
    assert achieved(histogram(300), histogram(100), 60.0) == 1.0


def test_a_window_without_events_achieves_nothing():
    """Silence is no success."""
    assert achieved(Histogram(), Histogram(), 60.0) == 0.0


def test_no_two_runs_of_an_open_loop_share_a_seed():
    """Or the second one would be answered as a repeat."""
    words = type("Words", (), {"rate": 2_000.0, "sustained": 10_000.0, "arrival": "both", "repeats": 2, "accounts": 10, "partitions": 4, "seed": 1})  # fmt: skip
    found = scores(words, Timing(10.0, 2.0, 1.0))
    assert [one.per_s for one in found[::2]] == [2_000, 5_000, 7_000, 9_000] * 2
    assert len({one.seed for one in found}) == len(found) == 16
    assert {one.seconds for one in found} == {13.0}
