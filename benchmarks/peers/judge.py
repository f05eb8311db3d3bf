"""What must hold for a peer's run to count: one outcome per intent, none twice, no money made or lost."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from benchmarks.harness import Gate
from replay.reader import Reader
from schemas import codec
from schemas.events import Intent, PaymentEvent, Status
from topologies import topics
from topologies.engine.config import ClusterConfig

DECLINED_MOST = 0.02


class Outcomes(NamedTuple):
    """What stands on a run's topic of outcomes."""

    records: int
    intents: set[str]
    declined: int
    moved: dict[str, int]
    """Minor units that the completed ones added to each account they touched."""


def outcomes_of(records: Iterable[Any]) -> Outcomes:
    """Counts outcomes; an echoed intent is one that moves nothing."""
    count, declined = 0, 0
    intents: set[str] = set()
    moved: dict[str, int] = {}
    for record in records:
        count += 1
        assert isinstance(record, PaymentEvent | Intent), record
        intents.add(record.intent_id)
        if isinstance(record, Intent):
            continue
        if record.status is not Status.COMPLETED:
            declined += 1
            continue
        moved[record.debtor] = moved.get(record.debtor, 0) - record.amount_minor
        moved[record.creditor] = moved.get(record.creditor, 0) + record.amount_minor
    return Outcomes(count, intents, declined, moved)


def read(cluster: ClusterConfig, subject: str) -> Outcomes:
    """The outcomes of a run, in the schema that they must have."""
    decode = codec.decoder(subject)
    with Reader(cluster) as reader:
        name = topics.EVENTS.name
        return outcomes_of(decode(raw.value) for raw in reader.read(name, reader.ends([name])))


def judge(found: Outcomes, offered: set[str], opening: int, balances: Mapping[str, int] | None) -> list[Gate]:
    """The gates of a run; `balances` are the state's, None where it keeps none."""
    missing, strange = len(offered - found.intents), len(found.intents - offered)
    gates = [
        Gate(
            "one outcome per intent",
            missing == strange == 0,
            f"{len(found.intents):,} of {len(offered):,} intents ended, {strange:,} were never offered",
        ),
        Gate(
            "no outcome twice",
            found.records == len(found.intents),
            f"{found.records - len(found.intents):,} more records than intents",
        ),
        Gate(
            "at most 2 % declined", found.declined <= DECLINED_MOST * len(offered), f"{found.declined:,} declined"
        ),
    ]  # fmt: skip
    return gates if balances is None else gates + _books(found, opening, balances)


def _books(found: Outcomes, opening: int, balances: Mapping[str, int]) -> list[Gate]:
    made = sum(balances.values()) - opening * len(balances)
    accounts = balances.keys() | found.moved.keys()
    wrong = sum(balances.get(name, opening) - opening != found.moved.get(name, 0) for name in accounts)
    return [
        Gate("sum of balances unchanged", made == 0, f"{made:,} minor units over {len(balances):,} accounts"),
        Gate("balances follow from the outcomes", wrong == 0, f"{wrong:,} accounts differ"),
    ]
