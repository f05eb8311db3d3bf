"""What the audit says: one check per promise, each with its first offence."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple


class Check(NamedTuple):
    """One promise: whether it holds, over how many records, and what broke it first."""

    name: str
    ok: bool
    detail: str
    """What was examined, or the first offending record: where it stands, what was expected, what it means."""
    examined: int


class Verdict:
    """A check under way."""

    __slots__ = ("examined", "first", "found", "judged", "name", "notes", "what")

    def __init__(self, name: str, what: str, *, judged: bool = True) -> None:
        self.name = name
        self.what = what
        """What `examined` counts, in the plural."""
        self.judged = judged
        """Whether the audit was asked to look, and could."""
        self.notes: list[str] = []
        self.examined = 0
        self.found = 0
        self.first = ""

    def offends(self, detail: str) -> None:
        """Notes an offence; the first one is told in full, further ones are counted."""
        self.found += 1
        if not self.first:
            self.first = detail

    def note(self, told: str) -> None:
        """Notes what a reader must know and what is no offence."""
        self.notes.append(told)

    def check(self) -> Check:
        """The outcome."""
        notes = "".join(f"; {note}" for note in self.notes)
        if not self.found:
            return Check(self.name, True, f"{self.examined:,} {self.what}{notes}", self.examined)
        more = f" (and {self.found - 1:,} more)" if self.found > 1 else ""
        return Check(self.name, False, self.first + more + notes, self.examined)


class Verdicts:
    """Every check of the audit. Numbers are those of the invariants in docs/architecture.md."""

    def __init__(self) -> None:
        self.readable = Verdict("records are readable", "records of our own decoded")
        self.journal = Verdict("journal joins", "steps")
        self.counts = Verdict("journal counts", "records counted")
        self.balance = Verdict("1 postings balance", "postings")
        self.fates = Verdict("2 one fate per intent", "intents")
        self.overdraft = Verdict("3 no overdraft", "postings on guarded accounts")
        self.sequences = Verdict("4 entry sequences join", "entries")
        self.keys = Verdict("5 same key, same answer", "idempotency keys")
        self.rows = Verdict("6 account rows equal postings", "account rows", judged=False)
        self.stores = Verdict("6 stores equal changelogs", "rows", judged=False)
        self.settled = Verdict("7 each member in one batch", "member entries", judged=False)
        self.replay = Verdict("8 replay gives the same bytes", "records", judged=False)
        self.ahead = Verdict("9 no store ahead of Kafka", "stores", judged=False)
        self.offsets = Verdict("9 offsets equal journal", "committed offsets", judged=False)
        self.still = Verdict("9 no lag, no open transaction", "partitions", judged=False)
        self.transit = Verdict("10 in transit equals undecided", "credits and reversals")

    def checks(self) -> tuple[Check, ...]:
        """What was judged, in the order of the invariants, the journal's first."""
        return tuple(
            verdict.check()
            for verdict in (
                self.readable,
                self.journal,
                self.counts,
                self.balance,
                self.fates,
                self.overdraft,
                self.sequences,
                self.keys,
                self.rows,
                self.stores,
                self.settled,
                self.replay,
                self.ahead,
                self.offsets,
                self.still,
                self.transit,
            )
            if verdict.judged
        )


@dataclass(frozen=True)
class AuditReport:
    """The audit's outcome and what it counted up to the cut. Amounts are in minor units."""

    ok: bool
    checks: tuple[Check, ...]
    records: dict[str, int] = field(default_factory=dict)
    """Records read, by topic; those past the cut included."""
    intents: int = 0
    """Intents that steps have read."""
    waiting: int = 0
    """Intents that no step has read yet."""
    fates: dict[str, int] = field(default_factory=dict)
    """Intents by fate: a status, or REPEATED, DECIDING, IN_FLIGHT, DEAD_LETTER, NONE."""
    events_by_status: dict[str, int] = field(default_factory=dict)
    """Events without those given again."""
    declined_by_reason: dict[str, int] = field(default_factory=dict)
    """DECLINED and REVERSED events by reason."""
    repeats: int = 0
    """Events given again."""
    dead_letters: dict[str, int] = field(default_factory=dict)
    """By reason code."""
    money: dict[str, dict[str, int]] = field(default_factory=dict)
    """Posted credits less posted debits: currency -> kind of account -> minor units; each currency sums to 0."""
    held: dict[str, int] = field(default_factory=dict)
    """Pending debits of customers, by currency."""
    in_transit: dict[str, int] = field(default_factory=dict)
    """Money debited whose second leg is undecided, by currency; nothing where it is zero."""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The report as plain values; `audit` maps each check's name to whether it holds."""
        plain = asdict(self)
        plain["checks"] = [check._asdict() for check in self.checks]
        plain["audit"] = {check.name: check.ok for check in self.checks}
        return plain


def plain(counter: Counter[str]) -> dict[str, int]:
    """A counter as a dict, most frequent first, ties by name."""
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))
