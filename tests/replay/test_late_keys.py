"""The audit and keys that were free again: minimal reproductions of its two false alarms."""

from builders import AT, a_command, an_intent
from endured import Log

from replay.audit import judge
from schemas.events import Micros, Minor
from schemas.keys import partition_of
from streams.rules import HOUR
from topologies import topics
from topologies.engine.memory import Memory
from topologies.payments import CORE


def opened():
    memory = Memory(CORE, now=int(AT))
    memory.publish(topics.COMMANDS, "bank", a_command("bank", flags=("DEBIT_NORMAL",)))
    memory.publish(topics.COMMANDS, "shop", a_command("shop"))
    return memory.run()


def send(memory, payment, **fields):
    memory.publish(topics.INTENTS, "bank", an_intent(payment, debtor="bank", idempotency_key="k", **fields))


def failed(memory):
    return {check.name: check.detail for check in judge(Log(memory), quiet=True).checks if not check.ok}


def test_a_key_is_free_again_a_window_after_home_decided_however_late_the_credit_was():
    """The creditor's partition lagged two hours; the key is used for another payment a day after the first."""
    memory = opened()
    send(memory, "p1")
    memory._step(partition_of("bank", 4), 1000)
    memory.run(at=memory.now + 2 * HOUR)
    memory.now = Micros(AT + 24 * HOUR)
    send(memory, "p2")
    assert failed(memory.run()) == {}


def test_a_conflict_that_is_repeated_after_the_window_is_a_conflict_still():
    """Past 24 h the payment's row knows the key: AM05 each time (R18), which binds nothing."""
    memory = opened()
    send(memory, "p1")
    memory.run().run(at=memory.now + 25 * HOUR)
    for _ in range(2):
        send(memory, "p1", amount_minor=Minor(7))
        memory.run()
    assert failed(memory) == {}
