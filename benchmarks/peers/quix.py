"""Quix Streams, `processing_guarantee="exactly-once"`: both legs in one dataframe, so that they share their rows.

The commit interval is the setting that its documentation names for throughput (docs/advanced/checkpointing.md,
"Configuring the Checkpointing", and docs/configuration.md, "Performance comparison", of quixio/quix-streams), and
rows are kept as bytes (`set_bytes`). Two topics are joined by `concat`, as docs/advanced/consuming-multiple-topics.md
has it; that aligns their times and waits for both. Where the credits go back to the topic of the intents there is
nothing to join, and it is much faster.
A record is a credit where its key is not the debtor.
"""

from time import time_ns
from typing import Any, NamedTuple

from quixstreams import Application, State
from quixstreams.models import Serializer

from benchmarks.peers import job

ACCOUNT, SEEN = "account", "seen-"
"""Keys of the rows under the record's own key."""


class Out(NamedTuple):
    """What a record puts out."""

    ends: bool
    """An outcome, or a credit."""
    key: str
    value: bytes


class ValueOf(Serializer):
    """The bytes of an `Out`."""

    def __call__(self, out: Out, *_: Any, **__: Any) -> bytes:
        """The bytes alone."""
        return out.value


def main() -> None:
    """Runs until SIGTERM."""
    wanted = job.told()
    app = Application(
        broker_address=wanted.bootstrap,
        consumer_group=wanted.group,
        processing_guarantee="exactly-once",
        auto_offset_reset="earliest",
        auto_create_topics=True,
        state_dir=f"{wanted.folder}/{wanted.worker}",
        loglevel="WARNING",
        **wanted.options,
    )
    decode, encode = job.intent_reader(), job.event_writer()

    def end(intent: job.Intent, reason: str | None) -> Out:
        return Out(ends=True, key=intent["debtor"], value=encode(intent, reason, time_ns() // 1_000))

    def leg(value: bytes, key: bytes, _timestamp: int, _headers: Any, state: State) -> Out:
        intent = decode(value)
        if key.decode() != intent["debtor"]:
            state.set_bytes(ACCOUNT, job.credited(state.get_bytes(ACCOUNT), intent, wanted.opening))
            return end(intent, None)
        seen = SEEN + intent["idempotency_key"]
        if state.get_bytes(seen) is not None:
            return end(intent, job.REPEATED)
        state.set_bytes(seen, intent["intent_id"].encode())
        after, reason = job.debited(state.get_bytes(ACCOUNT), intent, wanted.opening)
        if after is None:
            return end(intent, reason)
        state.set_bytes(ACCOUNT, after)
        return Out(ends=False, key=intent["creditor"], value=value)

    credits_ = app.topic(
        wanted.credits, key_deserializer="bytes", value_deserializer="bytes", key_serializer="str",
        value_serializer=ValueOf(),
    )  # fmt: skip
    events = app.topic(wanted.events, key_serializer="str", value_serializer=ValueOf())
    frame = app.dataframe(credits_)
    if wanted.credits != wanted.intents:
        intents = app.topic(wanted.intents, key_deserializer="bytes", value_deserializer="bytes")
        frame = frame.concat(app.dataframe(intents))
    outs = frame.apply(leg, stateful=True, metadata=True)
    outs.filter(lambda out: not out.ends).to_topic(credits_, key=lambda out: out.key)
    outs.filter(lambda out: out.ends).to_topic(events, key=lambda out: out.key)
    app.run()


if __name__ == "__main__":
    main()
