"""The transaction coordinator: transactional ids, epochs, fencing, timeouts, markers under way.

After apache/kafka `TransactionCoordinator`, with requests as librdkafka sends them (EndTxn version 1: the epoch stays
the same from one transaction to the next).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from confluent_kafka import KafkaError

from topologies.engine.memory.log import Place
from topologies.engine.memory.timeline import Timeline


class Refused(Exception):
    """The broker's answer to a request: an error code of KafkaError."""

    def __init__(self, code: int) -> None:
        super().__init__(KafkaError(code).name())
        self.code = code


@dataclass(slots=True)
class Transactional:
    """One transactional id."""

    identity: str
    producer: int
    epoch: int = -1
    timeout: float = 60.0
    ongoing: bool = False
    ending: bool | None = None
    """Whether a commit (True) or an abort is decided whose markers are still under way."""
    ended: bool | None = None
    """How the last transaction ended, until the next one begins."""
    started: float = 0.0
    places: set[Place] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    left: int = 0
    """Markers that are still under way."""


Mark = Callable[[Transactional, Place | str, bool], None]
"""Writes one marker: to a partition, or (a group's name) to that group's offsets."""


class Coordinator:
    """All transactional ids. `delay()` gives the seconds that each marker is under way."""

    def __init__(self, timeline: Timeline, mark: Mark, delay: Callable[[], float]) -> None:
        self.transactionals: dict[str, Transactional] = {}
        self.on_end: list[Callable[[Transactional, bool], None]] = []
        """Told each decision (commit: True) when it is made, before any marker."""
        self.committed = self.aborted = self.timed_out = 0
        self._timeline = timeline
        self._mark = mark
        self._delay = delay
        self._by_producer: dict[int, Transactional] = {}

    def init(self, identity: str, timeout: float) -> tuple[int, int]:
        """InitProducerId: a new epoch; what the id left open is aborted first (refused until that is done)."""
        txn = self.transactionals.get(identity)
        if txn is None:
            txn = Transactional(identity, 1000 + len(self.transactionals))
            self.transactionals[identity] = self._by_producer[txn.producer] = txn
        if txn.ongoing:
            txn.epoch += 1
            self._decide(txn, commit=False)
        if txn.ending is not None:
            raise Refused(KafkaError.CONCURRENT_TRANSACTIONS)
        txn.epoch += 1
        txn.timeout = timeout
        txn.ended = None
        return txn.producer, txn.epoch

    def _find(self, producer: int, epoch: int) -> Transactional:
        txn = self._by_producer[producer]
        if txn.epoch != epoch:
            raise Refused(KafkaError.INVALID_PRODUCER_EPOCH)
        return txn

    def _begin(self, producer: int, epoch: int) -> Transactional:
        txn = self._find(producer, epoch)
        if txn.ending is not None:
            raise Refused(KafkaError.CONCURRENT_TRANSACTIONS)
        if not txn.ongoing:
            txn.ongoing, txn.ended, txn.started = True, None, self._timeline.now
            txn.places, txn.groups = set(), set()
        return txn

    def add_places(self, producer: int, epoch: int, places: Iterable[Place]) -> None:
        """AddPartitionsToTxn."""
        self._begin(producer, epoch).places.update(places)

    def add_group(self, producer: int, epoch: int, group: str) -> None:
        """AddOffsetsToTxn."""
        self._begin(producer, epoch).groups.add(group)

    def verify(self, producer: int, epoch: int, where: Place | str) -> None:
        """Partition verification (KIP-890): `where` must be part of the transaction that is open now."""
        txn = self._find(producer, epoch)
        if not txn.ongoing or (where not in txn.places and where not in txn.groups):
            raise Refused(KafkaError.INVALID_TXN_STATE)

    def end(self, producer: int, epoch: int, *, commit: bool) -> None:
        """EndTxn. Answered as soon as the decision is kept; the markers follow."""
        txn = self._find(producer, epoch)
        if txn.ongoing:
            self._decide(txn, commit=commit)
        elif txn.ending is not None:
            raise Refused(KafkaError.CONCURRENT_TRANSACTIONS if txn.ending is commit else KafkaError.INVALID_TXN_STATE)
        elif txn.ended is not commit:
            raise Refused(KafkaError.INVALID_TXN_STATE)

    def _decide(self, txn: Transactional, *, commit: bool) -> None:
        txn.ongoing, txn.ending = False, commit
        self.committed += commit
        self.aborted += not commit
        for listener in self.on_end:
            listener(txn, commit)
        wheres: list[Place | str] = [*sorted(txn.places), *sorted(txn.groups)]
        txn.left = len(wheres)
        if not wheres:
            txn.ending, txn.ended = None, commit
        for where in wheres:
            self._timeline.later(self._delay(), partial(self._arrive, txn, where, commit))

    def _arrive(self, txn: Transactional, where: Place | str, commit: bool) -> None:  # noqa: FBT001
        self._mark(txn, where, commit)
        txn.left -= 1
        if not txn.left:
            txn.ending, txn.ended = None, commit

    def expire(self) -> None:
        """Aborts and fences every transaction that has been open longer than its timeout."""
        for txn in self.transactionals.values():
            if txn.ongoing and self._timeline.now - txn.started > txn.timeout:
                txn.epoch += 1
                self.timed_out += 1
                self._decide(txn, commit=False)
