"""What may be put back, what may not and why, and that each press does each letter once."""

import pytest
from builders import PARTITIONS, a_claim, a_command, an_intent
from worlds import ANSWERS, COMMANDS, CREDITS, EVENTS, INTENTS, LETTERS, REVERSALS, Kept, World, letter_headers

from headrace import dlq
from headrace.dlq import Press, Wish, choose, headers_for, look, rows
from replay.letters import LetterId, NoSuchLetter, letter_of
from replay.reader import Raw
from schemas import codec
from schemas.events import AccountEvent, CreditAction, Micros, Status
from schemas.internal import Redrive
from schemas.keys import partition_of
from topologies.engine.config import ClusterConfig
from topologies.engine.redrive import Refused, Undone
from topologies.topics import REDRIVES

HOME, THERE = partition_of("alice", PARTITIONS), partition_of("shop", PARTITIONS)


class Keyed(World):
    """A world whose records have the keys of the contract."""

    def read(self, topic, ends, starts=None):
        for raw in super().read(topic, ends, starts):
            kept = self.log[raw.topic, raw.partition][raw.offset]
            yield raw._replace(
                key=self.keys.get((raw.topic, raw.partition, raw.offset), b"key"), timestamp=kept and 1_000_000
            )

    def __init__(self):
        super().__init__()
        self.keys = {}
        for topic in (REDRIVES.name, "accounts.aliases"):
            self.log |= {(topic, p): [] for p in range(self.partitions)}

    def letter(self, topic, partition, offset, key, code="odd", **more):
        """A letter of the record that stands there; `more`: headers before ours."""
        value = self.log[topic, partition][offset].value
        headers = [*more.items(), *letter_headers(topic, partition, offset, code)]
        at = self.append(LETTERS, partition, value, headers)
        self.keys[LETTERS, partition, at] = key.encode()
        return LetterId(LETTERS, partition, at)

    def lost(self, payment_id, **fields):
        """An intent of alice's that became a letter."""
        intent, offset = self.ask(payment_id, **fields)
        return self.letter(INTENTS, HOME, offset, intent.debtor)


@pytest.fixture
def world():
    world = Keyed()
    for account in ("alice", "shop"):
        world.open(account)
    return world


def one(world, letter, wish=None):
    """What would become of a letter."""
    return next(choice for choice in choose(world, wish or Wish(), "") if choice.letter.id == letter)


def why_not(world, letter, wish=None):
    return one(world, letter, wish).why_not


# -- what strangers sent -----------------------------------------------------------------------------


def test_an_intent_goes_to_the_partition_of_its_key(world):
    """Wherever it stood before."""
    intent = an_intent("astray")
    offset = world.append(INTENTS, (HOME + 1) % PARTITIONS, intent)
    letter = world.letter(INTENTS, (HOME + 1) % PARTITIONS, offset, "alice", "wrong-partition")
    choice = one(world, letter)
    assert (choice.goes, choice.topic, choice.partition, choice.comes_back) == (True, INTENTS, HOME, False)


def test_an_intent_with_an_answer_has_its_fate(world):
    """The same intent got an event, under this key or as another record of it: a second fate is refused."""
    letter = world.lost("p")
    assert one(world, letter).goes
    again, offset = world.ask("p")
    assert "idempotency key was used" in why_not(world, letter)
    world.log[INTENTS, HOME][offset] = None
    world.append(EVENTS, HOME, world.event(again, offset, Status.DECLINED))
    assert "it became DECLINED at payments.events" in why_not(world, letter)


def test_another_letter_of_the_same_intent_is_no_fate(world):
    """Both may go; admission knows the second for a repeat."""
    letters = [world.lost("p"), world.lost("p")]
    assert [one(world, letter).goes for letter in letters] == [True, True]


def test_somebody_elses_key_is_another_key(world):
    """Keys are a debtor's own (R17)."""
    letter = world.lost("p")
    world.ask("p2", debtor="shop", idempotency_key="k-p")
    assert one(world, letter).goes


@pytest.mark.parametrize("kind", [a_command, a_claim])
def test_a_command_or_claim_that_was_answered_has_its_fate(world, kind):
    """By its id and account."""
    record = kind(account="carol") if kind is a_claim else kind("carol")
    topic, key = ("accounts.aliases", record.alias) if kind is a_claim else (COMMANDS, "carol")
    place = partition_of(key, PARTITIONS)
    letter = world.letter(topic, place, world.append(topic, place, record), key)
    assert one(world, letter).goes
    name = record.claim_id if kind is a_claim else record.command_id
    world.append(ANSWERS, partition_of("carol", PARTITIONS), AccountEvent(name, "carol", True, Micros(5)))
    assert "it was answered" in why_not(world, letter)


def test_a_letter_with_a_receipt_is_done(world):
    """Whatever else is wrong with it by now."""
    letter = world.lost("p")
    world.append(REDRIVES.name, 0, Redrive(*letter, Micros(5), "ana"))
    assert (one(world, letter).done, one(world, letter).goes) == (True, False)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([], "no header tells"),
        (letter_headers("orders", 0, 0, "x"), "no input of the workers"),
        (letter_headers(EVENTS, 0, 0, "x"), "would count twice"),
        ([*letter_headers(INTENTS, 0, 4, "x"), ("headrace.error.left-out", b"3000000")], "offset 4 only"),
        ([*letter_headers(INTENTS, 0, 0, "x"), ("headrace.replay-count", b"5")], "redriven 5 times"),
    ],
)
def test_a_letter_that_cannot_go_back_is_refused_with_the_reason(world, headers, told):
    """Nobody's, an output's, one without its bytes, one that goes in circles."""
    offset = world.append(LETTERS, 0, codec.encode(an_intent()), headers)
    assert told in why_not(world, LetterId(LETTERS, 0, offset))


def test_topics_of_another_prefix_are_not_written(world):
    """A letter that was copied from another run goes nowhere here."""
    letter = world.lost("p")
    choices = {choice.letter.id: choice.why_not for choice in choose(world, Wish(), "demo-x.")}
    assert "no input of the workers" in choices[letter]


def test_a_letter_that_is_certain_to_come_back_is_told(world):
    """Bytes that no schema fits, and codes that speak of the bytes alone."""
    torn = world.letter(INTENTS, HOME, world.append(INTENTS, HOME, b"torn"), "alice", "bad-magic")
    mismatch = world.letter(INTENTS, HOME, world.append(INTENTS, HOME, an_intent("q")), "bob", "key-mismatch")
    assert [one(world, letter).comes_back for letter in (torn, mismatch)] == [True, True]


# -- money in transit --------------------------------------------------------------------------------


def stuck_credit(world, payment_id="p", **fields):
    """A credit that became a letter: its letter's id, the intent, the credit."""
    intent, offset = world.ask(payment_id)
    credit = world.send(intent, offset, **fields)
    at = len(world.log[CREDITS, THERE]) - 1
    world._read[CREDITS, THERE] = at + 1
    return world.letter(CREDITS, THERE, at, "shop", "unprocessable"), intent, credit


def test_an_undecided_credit_goes_back_to_its_own_partition(world):
    """Its money stands in transit until then."""
    letter, _, _ = stuck_credit(world)
    choice = one(world, letter)
    assert (choice.goes, choice.topic, choice.partition) == (True, CREDITS, THERE)


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.REVERSED])
def test_a_credit_that_was_decided_never_goes_again(world, status):
    """The creditor's partition forgets its decisions after 91 days; the topics do not."""
    letter, intent, credit = stuck_credit(world)
    event = world.event(intent, credit.intent_offset, status, sequence=credit.sequence)
    world.append(EVENTS, HOME, event)
    assert f"it became {status}" in why_not(world, letter)


def test_a_credit_that_was_sent_back_never_goes_again(world):
    """Home may not have read the RETURN yet."""
    letter, intent, credit = stuck_credit(world)
    world._read[CREDITS, THERE] -= 1
    world.refuse(intent, credit)
    assert "it was sent back" in why_not(world, letter)


def test_a_question_waits_for_the_credit_that_it_asks_for(world):
    """Alone it would come back as unknown; together they go in their order."""
    letter, _, credit = stuck_credit(world)
    other, _, _ = stuck_credit(world, "q")
    repeat = credit._replace(action=CreditAction.REPEAT, repeat_intent_id="again", repeat_intent_offset=77)
    at = world.append(CREDITS, THERE, repeat)
    asks = world.letter(CREDITS, THERE, at, "shop", "unknown-credit")
    assert [one(world, each).goes for each in (letter, asks, other)] == [True, True, True]
    assert f"behind {letter}" in why_not(world, asks, Wish(ids=(asks, other)))
    assert one(world, other, Wish(ids=(asks, other))).goes
    world.append(REDRIVES.name, 0, Redrive(*letter, Micros(5), None))
    assert one(world, asks, Wish(ids=(asks,))).goes


def test_a_question_that_was_answered_has_its_fate(world):
    """By the event that was given again."""
    _, intent, credit = stuck_credit(world)
    repeat = credit._replace(action=CreditAction.REPEAT, repeat_intent_id="again", repeat_intent_offset=77)
    asks = world.letter(CREDITS, THERE, world.append(CREDITS, THERE, repeat), "shop", "unknown-credit")
    world.append(
        EVENTS, HOME, world.event(intent, 0, Status.COMPLETED, repeat_intent_id="again", repeat_intent_offset=77)
    )
    assert "given again" in why_not(world, asks)


def test_the_way_back_goes_only_while_nothing_was_given_back(world):
    """A RETURN that was carried out has its REVERSED."""
    intent, offset = world.ask("p")
    credit = world.send(intent, offset)
    world.refuse(intent, credit)
    letter = world.letter(REVERSALS, HOME, len(world.log[REVERSALS, HOME]) - 1, "alice", "unprocessable")
    assert (one(world, letter).goes, one(world, letter).partition) == (True, HOME)
    world.give_back(intent, credit)
    assert "it became REVERSED" in why_not(world, letter)


def test_money_in_transit_never_changes_its_partition(world):
    """A letter whose key says another partition was not written by a worker."""
    stuck_credit(world)
    assert HOME != THERE
    letter = world.letter(CREDITS, THERE, 0, "alice")
    assert "partition of its key" in why_not(world, letter)


def test_money_in_transit_that_cannot_be_read_stays(world):
    """It may be decided already: nobody can tell."""
    letter = world.letter(CREDITS, THERE, world.append(CREDITS, THERE, b"\0\0\0\0\4torn"), "shop")
    assert "can't be read here" in why_not(world, letter)


# -- one press ---------------------------------------------------------------------------------------


def test_headers_keep_the_first_origin_and_count(world):
    """Strangers' headers stay byte for byte; what told of one failure goes."""
    theirs = [("traceparent", b"00-1"), ("traceparent", b"00-2"), ("kafka_dlt-original-offset", b"\0" * 8)]
    first = letter_headers(INTENTS, 1, 5, "truncated")
    again = [*theirs, *first[:3], ("headrace.replay-count", b"1"), *letter_headers(INTENTS, 3, 9, "odd")]
    again += [("__streams.errors.stacktrace", b"long"), ("headrace.error.retriable", b"true")]
    letter = letter_of(Raw(LETTERS, 0, 0, 0, b"k", b"v", again), "")
    assert headers_for(letter) == [*theirs, *first[:3], ("headrace.replay-count", b"2")]


class Writes:
    """A redriver that writes receipts into the world, and fails as the test says."""

    def __init__(self, world):
        self.world, self.fails, self.calls = world, [], []

    def __call__(self, _cluster, partitions):
        assert partitions == PARTITIONS
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.calls.append("close")

    def begin(self):
        self.calls.append("begin")

    def write(self, moves):
        self.calls.append([move.receipt.offset for move in moves])
        error, wrote = self.fails.pop(0) if self.fails else (None, True)
        if wrote:
            for move in moves:
                self.world.append(REDRIVES.name, 0, move.receipt)
        if error is not None:
            raise error


@pytest.fixture
def press(world, monkeypatch):
    writes = Writes(world)
    monkeypatch.setattr(dlq, "Redriver", writes)

    def go(wish=None, **fields):
        pressed = Press(ClusterConfig("localhost:1"), "ana", **fields)
        pressed.run(world, wish or Wish(), lambda went, total: None)
        return pressed

    go.writes = writes
    return go


def test_receipts_are_read_after_the_id_was_taken(world, press, monkeypatch):
    """Before it somebody else's press may still be committed."""
    letter = world.lost("p")
    monkeypatch.setattr(
        press.writes, "begin", lambda: world.append(REDRIVES.name, 0, Redrive(*letter, Micros(5), "quicker"))
    )
    assert press().redriven == []
    assert press.writes.calls == ["close"]


def test_a_second_press_finds_it_done(world, press):
    """Whatever was redriven has its receipt."""
    letters = [world.lost(name) for name in "pq"]
    assert press().redriven == letters
    again = press()
    assert (again.redriven, [choice.done for choice in again.choices]) == ([], [True, True])


def test_doubt_is_ended_by_the_receipts(world, press):
    """Kafka said nothing and had committed: the letters went. It had not: the press fails, and says so."""
    letters = [world.lost(name) for name in "pq"]
    press.writes.fails = [(Undone("silence"), True)]
    assert press().redriven == letters
    assert press.writes.calls == ["begin", [0, 1], "begin", "close"]
    world.lost("r")
    press.writes.fails = [(Undone("silence"), False)]
    with pytest.raises(Undone):
        press()


def test_one_that_kafka_does_not_take_holds_back_nobody_else(world, press):
    """It is refused by name; the others of its transaction go in the next one."""
    letters = [world.lost(name) for name in "pqr"]
    press.writes.fails = [(Refused(1, "too large"), False)]
    pressed = press()
    assert pressed.redriven == [letters[0], letters[2]]
    assert pressed.refused == {letters[1]: "Kafka does not take it: too large"}


def test_limits_leave_letters_for_later(world, press, monkeypatch):
    """So many now, so many in one transaction."""
    letters = [world.lost(str(number)) for number in range(5)]
    monkeypatch.setattr(dlq, "AT_ONCE", 2)
    pressed = press(most=3)
    assert (pressed.redriven, pressed.left) == (letters[:3], 2)
    assert press.writes.calls == ["begin", [0, 1], [2], "close"]


def test_a_letter_that_is_not_there_stops_the_press(world, press):
    """A slip in an offset redrives nothing."""
    world.lost("p")
    with pytest.raises(NoSuchLetter, match=f"{LETTERS}:0:99"):
        press(Wish(ids=(LetterId(LETTERS, HOME, 0), LetterId(LETTERS, 0, 99))))
    assert press.writes.calls == ["begin", "close"]


# -- lists -------------------------------------------------------------------------------------------


def test_letters_are_counted_by_topic_and_code_with_their_money(world):
    """What was redriven is counted, but is neither parked nor money any more."""
    first, second = world.lost("p"), world.lost("q")
    world.letter(INTENTS, HOME, world.append(INTENTS, HOME, b"torn"), "alice", "bad-magic")
    world.append(REDRIVES.name, 0, Redrive(*first, Micros(5), "ana"))
    counted = rows(*look(world, Wish(), ""))
    assert [(row.code, row.letters, row.parked, row.money, row.first) for row in counted] == [
        ("bad-magic", 1, 1, {}, LetterId(LETTERS, HOME, 2)),
        ("odd", 2, 1, {"EUR": 1200}, second),
    ]


@pytest.mark.parametrize(
    ("wish", "count"),
    [
        (Wish(payment="p"), 1),
        (Wish(account="shop"), 2),
        (Wish(account="nobody"), 0),
        (Wish(code="odd"), 2),
        (Wish(code="even"), 0),
        (Wish(topic=LETTERS), 2),
    ],
)
def test_letters_are_found_by_what_they_are_about(world, wish, count):
    """By payment, account, code, topic."""
    world.lost("p")
    world.lost("q")
    assert len(look(world, wish, "")[0]) == count


def test_kept_records_are_what_the_world_holds():
    """The helper's letters hold the very record that they stand for."""
    world = Keyed()
    letter = world.lost("p")
    assert isinstance(world.log[LETTERS, letter.partition][letter.offset], Kept)
