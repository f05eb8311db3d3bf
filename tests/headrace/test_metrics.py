"""What the engine reports is what the page shows."""

from typing import get_type_hints

from prometheus_client.parser import text_string_to_metric_families

from headrace.metrics import Metrics, metric_names
from topologies.engine.observer import Observer


def samples(metrics):
    """Value by name and labels."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def labels(**given):
    return tuple(sorted(given.items()))


def test_every_call_of_the_engine_is_answered():
    """A method that the protocol gains must come here too, with the same arguments."""
    for name, wanted in vars(Observer).items():
        if not name.startswith("_"):
            assert get_type_hints(getattr(Metrics, name)) == get_type_hints(wanted), name


def test_every_report_is_on_the_page():
    """Names, labels and values, in base units."""
    metrics = Metrics(version="1.2.3", group="t.headrace.core")
    metrics.step("core", "commit", 0.02)
    metrics.records("core", 4_000)
    metrics.transaction("core", "committed")
    metrics.payment("DECLINED", "AM04", 3)
    metrics.dead_letter("admission", "bad-debtor")
    metrics.alert("pan-masked")
    metrics.agent_time("ledger", 0.4)
    metrics.table_rows("accounts", 12)
    metrics.lag("payments.intents", 2, 17, 1.5)
    metrics.rebalance("core")
    metrics.recovery("core", 99)
    found = samples(metrics)
    place = labels(group="t.headrace.core", topic="payments.intents", partition="2")
    assert found["headrace_step_duration_seconds_sum", labels(role="core", phase="commit")] == 0.02
    assert found["headrace_step_records_sum", labels(role="core")] == 4_000
    assert found["headrace_transactions_total", labels(role="core", outcome="committed")] == 1
    assert found["headrace_payments_total", labels(status="DECLINED", reason="AM04")] == 3
    assert found["headrace_dead_letters_total", labels(agent="admission", code="bad-debtor")] == 1
    assert found["headrace_alerts_total", labels(code="pan-masked")] == 1
    assert found["headrace_agent_duration_seconds_count", labels(agent="ledger")] == 1
    assert found["headrace_table_rows", labels(table="accounts")] == 12
    assert found["headrace_lag_records", place] == 17
    assert found["headrace_lag_seconds", place] == 1.5
    assert found["headrace_rebalances_total", labels(role="core")] == 1
    assert found["headrace_recovery_remaining_records", labels(role="core")] == 99
    assert any(name == "headrace_build_info" and ("version", "1.2.3") in with_labels for name, with_labels in found)


def test_the_names_that_are_declared_are_those_on_the_page():
    """Boards and alerts are checked against them; what is not in use yet is declared, too."""
    metrics = Metrics()
    metrics.step("core", "commit", 0.02)
    metrics.dead_letter("admission", "bad-debtor")
    assert {name for name, _ in samples(metrics)} < metric_names()
    assert {"headrace_payments_total", "headrace_agent_duration_seconds_bucket", "headrace_table_rows"} < metric_names()


def test_the_lag_of_a_partition_that_moved_away_is_not_shown():
    """A worker reports only what it has: the new owner reports the rest."""
    metrics = Metrics()
    metrics.lag("payments.intents", 2, 17, 1.5)
    metrics.forget_lag()
    assert not any(name.startswith("headrace_lag") for name, _ in samples(metrics))


def test_a_step_of_a_millisecond_and_one_of_a_second_are_told_apart():
    """Buckets reach from half a millisecond to a Kafka call's limit."""
    metrics = Metrics()
    for seconds in (0.0008, 0.9, 30.0):
        metrics.step("core", "decide", seconds)
    found = samples(metrics)
    counts = [
        found["headrace_step_duration_seconds_bucket", labels(role="core", phase="decide", le=le)]
        for le in ("0.001", "1.0", "10.0")
    ]
    assert counts == [1, 2, 2]


def test_two_workers_in_one_process_do_not_share_numbers():
    """Each has a registry of its own."""
    one, other = Metrics(), Metrics()
    one.rebalance("core")
    assert ("headrace_rebalances_total", labels(role="core")) not in samples(other)
