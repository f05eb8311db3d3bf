"""What a worker tells now and then: the lag of its inputs and the sizes of its tables."""

from collections import Counter
from collections.abc import Mapping

from topologies.engine.group import Group
from topologies.engine.observer import Observer
from topologies.engine.partition import Partition


def report(partitions: Mapping[int, Partition], group: Group, observer: Observer, now: int) -> None:
    """Lag by topic and partition, in records and in seconds (0 when nothing waits), and rows by table. `now` in µs."""
    rows: Counter[str] = Counter()
    for number, partition in partitions.items():
        rows.update({name: table.size for name, table in partition.state.tables.items()})
        ends = group.ends(number)
        for topic, following in partition.inbox.next.items():
            waiting = partition.inbox.waiting(topic)
            lag = max(len(waiting), ends.get(topic, 0) - following)
            age = (now - waiting[0].timestamp) / 1e6 if waiting else 0.0
            observer.lag(topic, number, lag, max(age, 0.0) if lag else 0.0)
    for table, count in rows.items():
        observer.table_rows(table, count)
