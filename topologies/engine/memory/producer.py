"""The transactional producer of confluent_kafka, over the simulated Kafka; after librdkafka's `rdkafka_txnmgr.c`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from topologies.engine.memory.broker import Broker
from topologies.engine.memory.coordinator import Refused
from topologies.engine.memory.host import Host, Trouble
from topologies.engine.memory.log import Place, Record
from topologies.engine.memory.members import GroupMetadata
from topologies.engine.memory.message import Message

BACK_OFF_S = 0.02
STRAGGLING = ("late", "held")
TWICE = ("transport", "repeated")
"""Troubles with which the call succeeds, but its request goes twice. Nothing tells of the second kind but the time it took."""
REPEATED_S = 1.0
"""After so long the client gives a request up and sends it again."""
WALL = 1_700_000_000_000
"""The broker's clock at virtual time 0, ms since 1970."""
FENCED = (KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED)
WAITS = KafkaError.CONCURRENT_TRANSACTIONS
Queued = tuple[Record, Callable[[Any, Message], None] | None]


def error_of(kind: str) -> KafkaError:
    """An error as a client raises it, by its class: retriable, abortable, fatal, fenced, plain."""
    if kind == "retriable":
        return KafkaError(KafkaError._TIMED_OUT, "timed out", False, True, False)  # noqa: SLF001  # public constants
    if kind == "abortable":
        return KafkaError(KafkaError._INCONSISTENT, "abort it", False, False, True)  # noqa: SLF001
    if kind == "fatal":
        return KafkaError(KafkaError._FATAL, "broken for good", True, False, False)  # noqa: SLF001
    if kind == "fenced":
        return KafkaError(KafkaError._FENCED, "fenced", True, False, False)  # noqa: SLF001
    return KafkaError(KafkaError.UNKNOWN, "who knows", False, False, False)


class MemoryProducer:
    """States: `new`, `ready`, `open`, `committing`, `aborting`, `abortable`, `fatal`."""

    def __init__(self, broker: Broker, host: Host, options: Mapping[str, Any]) -> None:
        self._broker = broker
        self._host = host
        self._identity = str(options["transactional.id"])
        self._timeout = float(options["transaction.timeout.ms"]) / 1000
        self._error_cb = options.get("error_cb")
        self._state = "new"
        self._error: KafkaError | None = None
        self._id, self._epoch, self._batch = -1, -1, 0
        self._queue: dict[Place, list[Queued]] = {}
        self._events: list[Callable[[], None]] = []
        self._added: set[Place] = set()
        self._asked = False
        """Whether the coordinator has heard of this transaction."""
        self._bump = False

    # -- the API ---------------------------------------------------------------------------------

    def init_transactions(self, timeout: float) -> None:
        """A new epoch; ends what this id left open."""
        self._enter("init_transactions")
        self._require("new")
        trouble = self._host.trouble("init_transactions")
        if trouble is None or trouble.effect == "done":
            self._take_epoch(timeout)
        self._fall(trouble)
        self._state = "ready"

    def begin_transaction(self) -> None:
        """Local."""
        self._enter("begin_transaction")
        self._require("ready")
        self._fall(self._host.trouble("begin_transaction"))
        self._state, self._asked = "open", False
        self._added.clear()

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        **more: Any,
    ) -> None:
        """Queues one record. Options: partition, headers, on_delivery."""
        self._require("open")
        if self._host.trouble("produce") is not None:
            raise BufferError("Local: Queue full")
        headers = tuple(more.get("headers") or ())
        record = Record(self._wall(), key, value, headers)
        self._queue.setdefault((topic, more["partition"]), []).append((record, more.get("on_delivery")))

    def produce_batch(self, topic: str, messages: list[dict[str, Any]], partition: int) -> int:
        """Queues records; how many were taken. Headers are dropped, as confluent_kafka does."""
        self._require("open")
        short = self._host.trouble("produce_batch")
        taken = len(messages) - 1 if short is not None else len(messages)
        queue = self._queue.setdefault((topic, partition), [])
        now = self._wall()
        queue += [(Record(now, each["key"], each["value"]), None) for each in messages[:taken]]
        for each in messages[taken:]:
            each["_error"] = KafkaError(KafkaError._QUEUE_FULL)  # noqa: SLF001  # a public constant
        return taken

    def send_offsets_to_transaction(
        self, positions: Sequence[TopicPartition], shown: GroupMetadata, timeout: float
    ) -> None:
        """AddOffsetsToTxn, TxnOffsetCommit."""
        self._enter("send_offsets")
        self._require("open")
        for place in list(self._queue):
            if self._host.rng.random() < 0.4:
                self._deliver(place, timeout)
        self._require("open")
        offsets = {(tp.topic, tp.partition): (tp.offset, tp.metadata) for tp in positions if tp.offset >= 0}
        if not offsets:
            return
        identity, epoch = self._id, self._epoch

        def send() -> None:
            self._broker.coordinator.add_group(identity, epoch, shown.group)
            self._broker.promise_offsets(identity, epoch, shown, offsets)

        def again() -> None:
            self._broker.promise_offsets(identity, epoch, shown, offsets)

        self._request(self._host.trouble("send_offsets"), send, again, timeout)

    def commit_transaction(self, timeout: float) -> None:
        """Delivers what is queued, then EndTxn(commit)."""
        self._enter("commit")
        self._require("open", "committing")
        if self._state == "open":
            self._flush(timeout)
            self._require("open")
        self._state = "committing"
        self._end("commit", timeout, commit=True)

    def abort_transaction(self, timeout: float) -> None:
        """Forgets what is queued, then EndTxn(abort)."""
        self._enter("abort")
        self._require("open", "aborting", "abortable")
        self._queue.clear()
        self._state = "aborting"
        self._end("abort", timeout, commit=False)
        if self._bump:
            self._bump = False
            self._take_epoch(timeout)

    def poll(self, timeout: float) -> int:
        """Calls back: errors and deliveries."""
        self._enter("producer.poll")
        if timeout:
            self._host.wait(timeout)
        return self._serve()

    def close(self) -> None:
        """Aborts what is open, if this producer is not fenced yet."""
        self._enter("producer.close")
        if self._state in {"open", "abortable", "committing", "aborting"} and self._asked:
            end = partial(self._broker.coordinator.end, self._id, self._epoch, commit=False)
            self._straggle(Trouble("closed", "late"), end)
        self._state, self._error = "fatal", error_of("fatal")

    # -- inside ----------------------------------------------------------------------------------

    def _wall(self) -> int:
        return WALL + int(self._broker.timeline.now * 1000)

    def _enter(self, call: str) -> None:
        self._host.enter(call)

    def _require(self, *states: str) -> None:
        if self._state in states:
            return
        if self._error is not None:
            raise KafkaException(self._error)
        raise KafkaException(KafkaError(KafkaError._STATE, f"not allowed in state {self._state}"))  # noqa: SLF001

    def _fail(self, error: KafkaError) -> KafkaException:
        """The state that an error leaves behind."""
        if error.fatal():
            self._state, self._error = "fatal", error
        elif error.txn_requires_abort() and self._state != "ready":
            self._state, self._error = "abortable", error
        return KafkaException(error)

    def _fall(self, trouble: Trouble | None) -> None:
        if trouble is not None and trouble.kind not in TWICE:
            raise self._fail(error_of(trouble.kind))

    def _refused(self, refused: Refused) -> KafkaException:
        """What librdkafka makes of a broker's answer."""
        if refused.code in FENCED:
            return self._fail(error_of("fenced"))
        if refused.code == KafkaError.INVALID_TXN_STATE:
            return self._fail(KafkaError(refused.code, None, True, False, False))
        return self._fail(KafkaError(refused.code, None, False, False, True))

    def _patiently(self, request: Callable[[], Any], timeout: float) -> Any:
        """Sends a request again while another transaction's end is under way."""
        deadline = self._broker.timeline.now + timeout
        while True:
            try:
                return request()
            except Refused as refused:
                if refused.code != WAITS:
                    raise self._refused(refused) from None
                if self._broker.timeline.now > deadline:
                    raise self._fail(error_of("retriable")) from None
                self._host.wait(BACK_OFF_S)

    def _straggle(self, trouble: Trouble, request: Callable[[], Any]) -> None:
        """A request that reaches the broker later; nobody hears the answer."""

        def land() -> None:
            try:
                request()
            except Refused:
                return

        if trouble.effect == "held":
            self._broker.hold(self._id, int(trouble.delay), land)
        else:
            self._broker.timeline.later(trouble.delay, land)

    def _request(
        self, trouble: Trouble | None, request: Callable[[], Any], again: Callable[[], Any], timeout: float
    ) -> None:
        """One request with what may go wrong; `again` is what a copy of it does that lands later."""
        self._asked = True
        if trouble is None:
            self._patiently(request, timeout)
        elif trouble.kind in TWICE:
            self._patiently(request, timeout)
            self._twice(trouble, again)
        else:
            if trouble.effect == "done":
                self._patiently(request, timeout)
            elif trouble.effect in STRAGGLING:
                self._straggle(trouble, request)
            self._fall(trouble)

    def _twice(self, trouble: Trouble, again: Callable[[], Any]) -> None:
        """A copy is under way. If a connection broke, `error_cb` is told by the next poll."""
        self._straggle(trouble, again)
        if trouble.kind == "repeated":
            self._host.wait(REPEATED_S)
        elif self._error_cb is not None:
            error = KafkaError(KafkaError._TRANSPORT, "connection closed")  # noqa: SLF001  # a public constant
            callback = self._error_cb
            self._events.append(lambda: callback(error))

    def _serve(self) -> int:
        events, self._events = self._events, []
        for event in events:
            event()
        return len(events)

    def _take_epoch(self, timeout: float) -> None:
        coordinator = self._broker.coordinator
        self._id, self._epoch = self._patiently(lambda: coordinator.init(self._identity, self._timeout), timeout)
        self._batch = 0

    def _flush(self, timeout: float) -> None:
        """Delivers everything, partition by partition in any order; then the callbacks."""
        places = list(self._queue)
        self._host.rng.shuffle(places)
        for place in places:
            if self._host.rng.random() < 0.2:
                self._enter("deliver")
            self._deliver(place, timeout)
        self._serve()

    def _deliver(self, place: Place, timeout: float) -> None:
        queued = self._queue.pop(place)
        trouble = self._host.trouble("deliver")
        self._batch += 1
        identity, epoch, batch = self._id, self._epoch, self._batch
        records = [record for record, _ in queued]
        self._asked = True
        if place not in self._added:
            self._patiently(lambda: self._broker.coordinator.add_places(identity, epoch, [place]), timeout)
            self._added.add(place)

        def send() -> int:
            return self._broker.produce(identity, epoch, place, batch, records)

        if trouble is not None and trouble.kind not in TWICE:
            if trouble.effect in STRAGGLING:
                self._straggle(trouble, send)
            elif trouble.effect == "done":
                self._patiently(send, timeout)
            self._bump = True
            self._fail(KafkaError(KafkaError._MSG_TIMED_OUT, "not delivered", False, False, True))  # noqa: SLF001
            return
        first = self._patiently(send, timeout)
        if trouble is not None:
            self._twice(trouble, send)
            first = -1
        for number, (record, told) in enumerate(queued):
            if told is not None:
                offset = first + number if first >= 0 else -1
                message = Message(*place, offset, record)
                self._events.append(partial(told, None, message))

    def _end(self, call: str, timeout: float, *, commit: bool) -> None:
        if not self._asked:
            self._state = "ready"
            return
        identity, epoch = self._id, self._epoch
        self._request(
            self._host.trouble(call),
            lambda: self._broker.coordinator.end(identity, epoch, commit=commit),
            lambda: self._broker.coordinator.end(identity, epoch, commit=commit),
            timeout,
        )
        self._enter(f"{call}.answer")
        self._state, self._error = "ready", None
