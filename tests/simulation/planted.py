"""Known bugs, put into the engine on purpose: the simulation must find each of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from topologies.engine import changelog, partition, transactions
from topologies.engine.checkpoint import Checkpoint
from topologies.engine.inbox import Inbox
from topologies.engine.membership import Classic
from topologies.engine.memory.producer import MemoryProducer
from topologies.engine.step import PartitionTables
from topologies.engine.transactions import Outcome, Transactions
from topologies.engine.turns import Turns
from topologies.engine.writing import Writing

Patch = tuple[Any, str, Any]


def store_before_commit() -> list[Patch]:
    """Rows go to the store before their transaction is committed, as Faust does it."""
    contents = Writing.contents

    def early(self: Writing, planned: Any) -> Any:
        found = contents(self, planned)
        for item in planned:
            item.partition.state.store.write(item.rows, None)
        return found

    return [(Writing, "contents", early)]


def no_rewind_after_abort() -> list[Patch]:
    """The records of an aborted step are taken for decided."""
    commit = Turns._commit

    async def forgetful(self: Turns, planned: Any) -> None:
        steps = [item.partition.state.step for item in planned]
        await commit(self, planned)
        for item, step in zip(planned, steps, strict=True):
            if item.partition.number in self.partitions and item.partition.state.step == step:
                item.partition.inbox.settle(item.step.taken)

    return [(Turns, "_commit", forgetful)]


def _outcomes(wrong: Outcome) -> list[Patch]:
    run = Transactions.run

    def sure(self: Transactions, contents: Any, metadata: Any) -> Outcome:
        outcome = run(self, contents, metadata)
        return wrong if outcome is Outcome.UNKNOWN else outcome

    return [(Transactions, "run", sure)]


def unknown_taken_for_aborted() -> list[Patch]:
    """A commit whose answer was lost is done again."""
    return _outcomes(Outcome.ABORTED)


def unknown_taken_for_committed() -> list[Patch]:
    """A commit whose answer was lost is believed."""
    return _outcomes(Outcome.COMMITTED)


def offsets_not_in_the_transaction() -> list[Patch]:
    """Offsets are committed after the transaction, as a plain consumer does it."""
    commit = MemoryProducer.commit_transaction

    def later(self: MemoryProducer, positions: Any, shown: Any, _timeout: float) -> None:
        self._host.enter("send_offsets")
        self._positions = (positions, shown)

    def then(self: MemoryProducer, timeout: float) -> None:
        commit(self, timeout)
        positions, shown = self._positions
        group = self._broker.group(shown.group)
        group.offsets.update({(tp.topic, tp.partition): (tp.offset, tp.metadata) for tp in positions})

    return [(MemoryProducer, "send_offsets_to_transaction", later), (MemoryProducer, "commit_transaction", then)]


def no_new_epoch_after_trouble() -> list[Patch]:
    """A producer that saw errors goes on in the same epoch: a straggler may land in its next transaction."""
    return [(Transactions, "_trouble", property(lambda _self: False, lambda _self, _value: None))]


def base_at_the_walks_end() -> list[Patch]:
    """A checkpoint's walk says that all rows stand from its end on, not from its beginning on."""
    take = Checkpoint.take

    def late(self: Checkpoint, changed: int) -> Any:
        taken = take(self, changed)
        return taken._replace(base=self._state.changelog) if taken.ends else taken

    return [(Checkpoint, "take", late)]


def rows_written_again_over_newer_ones() -> list[Patch]:
    """A checkpoint's rows are packed behind the step's own."""

    def behind(step: int, base: int, rows: Any) -> list[bytes]:
        return changelog.pack(step, base, rows[::-1])

    return [(partition, "pack", behind)]


def pauses_outlive_a_rebalance() -> list[Patch]:
    """What was held back before partitions moved is never fetched again."""
    return [(Classic, "fetch", staticmethod(lambda consumer, starts: consumer.assign(starts)))]


def slow_calls_are_not_noticed() -> list[Patch]:
    """A request that the client repeated in silence may land in the next transaction of the same epoch."""
    return [(transactions, "SLOW_S", 1e9)]


def stale_records_are_taken_again() -> list[Patch]:
    """What stands below the expected offset is not left out."""

    def add(self: Inbox, topic: str, raw: Any) -> None:
        self._queues[topic].append(raw)
        self._expected[topic] = raw.offset + 1

    return [(Inbox, "add", add)]


def rows_of_an_aborted_step_stay() -> list[Patch]:
    """What an aborted step had changed is still seen by the next one."""
    return [(PartitionTables, "drop", lambda _self: None)]


def aliases_are_not_waited_for() -> list[Patch]:
    """A step is taken before the table of aliases is as far as the partition's last owner had read it."""
    return [(Turns, "_shared_ready", lambda _self: True)]


BUGS: dict[str, Callable[[], list[Patch]]] = {
    bug.__name__: bug
    for bug in (
        store_before_commit,
        no_rewind_after_abort,
        unknown_taken_for_aborted,
        unknown_taken_for_committed,
        offsets_not_in_the_transaction,
        no_new_epoch_after_trouble,
        slow_calls_are_not_noticed,
        pauses_outlive_a_rebalance,
        base_at_the_walks_end,
        rows_written_again_over_newer_ones,
        stale_records_are_taken_again,
        rows_of_an_aborted_step_stay,
        aliases_are_not_waited_for,
    )
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The engine with a bug in it."""
    patches = BUGS[name]()
    kept = [(owner, attribute, owner.__dict__.get(attribute)) for owner, attribute, _ in patches]
    for owner, attribute, value in patches:
        setattr(owner, attribute, value)
    try:
        yield
    finally:
        for owner, attribute, value in kept:
            if value is None:
                delattr(owner, attribute)
            else:
                setattr(owner, attribute, value)
