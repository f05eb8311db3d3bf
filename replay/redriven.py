"""Redriven records on topics that only workers write: each is the copy of a dead letter, and has a receipt.

No step wrote them, so the journal does not count them. Workers write no headers there, so `headrace.replay-count`
tells a copy.
"""

from collections import Counter

from replay.letters import REPLAYS, LetterId
from replay.reader import Raw
from replay.verdicts import Verdict
from topologies.topics import CREDITS, REVERSALS

INNER = frozenset({CREDITS.name, REVERSALS.name})
"""Topics that only workers write."""


def is_copy(raw: Raw) -> bool:
    """Whether a record was redriven."""
    return any(name == REPLAYS for name, _ in raw.headers or ())


class Copies:
    """Copies by the partition on which they stand, against receipts by the partition where their letters failed."""

    def __init__(self) -> None:
        self._found: Counter[tuple[str, int]] = Counter()
        self._origins: dict[LetterId, tuple[str, int]] = {}

    def copy(self, raw: Raw) -> None:
        """A redriven record."""
        self._found[raw.topic, raw.partition] += 1

    def letter(self, raw: Raw, origin: tuple[str, int, int]) -> None:
        """A dead letter, and the input that failed."""
        self._origins[LetterId(raw.topic, raw.partition, raw.offset)] = origin[:2]

    def judge(self, receipts: set[LetterId], verdict: Verdict) -> None:
        """No copy without a receipt: somebody else would have written it."""
        allowed = Counter(self._origins[one] for one in receipts if one in self._origins)
        for (topic, partition), count in sorted(self._found.items()):
            if count > allowed[topic, partition]:
                verdict.offends(
                    f"{topic} partition {partition}: {count:,} records say that they were redriven, receipts there are "
                    f"{allowed[topic, partition]:,}: somebody else wrote here"
                )
