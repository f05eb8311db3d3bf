"""The publisher refuses before it sends. What it sends is tested on the real Kafka."""

import pytest
from builders import a_claim, a_command, an_intent

from headrace.publisher import Publisher, Refused, Undelivered
from schemas.events import Credit, Kind, Minor
from topologies.engine.admin import ClusterUnreachable
from topologies.engine.config import ClusterConfig

NOBODY = ClusterConfig("127.0.0.1:1", kafka={"log_level": "0"})


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (an_intent(amount_minor=Minor(0)), "amount_minor"),
        (an_intent(amount_minor=12.5), "amount_minor"),
        (an_intent(currency="EURO"), "currency"),
        (an_intent(kind=Kind.UNKNOWN), "kind"),
        (an_intent(debtor=""), "debtor"),
        (an_intent(idempotency_key="é" * 128), "idempotency_key"),
        (an_intent(intent_id="\ud800"), "intent_id"),
        (an_intent(requested_at=None), "requested_at"),
        (a_command(flags=("RICH",)), "flags"),
        (a_command(account="~in-transit"), "account"),
        (a_claim(alias="email:Shop@example.org"), "alias"),
        (("not", "a", "record"), "record"),
    ],
)
def test_a_wrong_record_is_refused_before_anything_is_sent(record, field):
    """The field is named; no broker is asked, for there is none."""
    publisher = Publisher(NOBODY)
    with pytest.raises(Refused) as caught:
        publisher.publish(record)
    assert caught.value.field == field
    assert publisher.flush() == (0, 0, {}, None)


def test_internal_records_are_not_for_publishers():
    """Nobody can credit an account from outside."""
    with pytest.raises(Refused, match="publish an Intent, an AccountCommand or an AliasClaim"):
        Publisher(NOBODY).publish(Credit(*[None] * len(Credit._fields)))


def test_card_numbers_pass_only_where_the_guard_is_off():
    """R44 holds for publishers too."""
    intent = an_intent(debtor="4111111111111111")
    with pytest.raises(Refused, match="holds a card number"):
        Publisher(NOBODY).publish(intent)
    from headrace.checks import check

    check(intent, pan_guard=False)


def test_a_kafka_that_does_not_answer_is_named(monkeypatch):
    """The first record asks for its topic, so that the answer comes at once."""
    monkeypatch.setattr("topologies.engine.admin.CALL_S", 0.5)
    with pytest.raises(ClusterUnreachable, match=r"no Kafka answers at 127\.0\.0\.1:1"):
        Publisher(NOBODY).publish(an_intent())


def test_leaving_the_context_tells_of_lost_records(monkeypatch):
    """Whoever does not ask for receipts still learns that a record was lost."""
    monkeypatch.setattr("headrace.publisher.require_topics", lambda _cluster, _names: {})
    quick = ClusterConfig("127.0.0.1:1", kafka={"log_level": "0"})
    publisher = Publisher(quick)

    def lose_one():
        with publisher:
            publisher.publish(an_intent())
            publisher._sender._producer.purge()

    with pytest.raises(Undelivered, match="1 of 1 records were not delivered"):
        lose_one()
