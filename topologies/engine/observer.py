"""What the engine tells whoever watches it; `headrace/metrics.py` makes metrics of it."""

from typing import Protocol


class Observer(Protocol):
    """Called by the engine, never by decisions. Calls are short and never raise."""

    def step(self, role: str, phase: str, seconds: float) -> None:
        """A phase of a step is over: poll, decide, produce, commit or apply."""

    def records(self, role: str, count: int) -> None:
        """A step decided `count` records."""

    def transaction(self, role: str, outcome: str) -> None:
        """A transaction ended: committed, aborted or unknown."""

    def payment(self, status: str, reason: str, count: int) -> None:
        """`count` committed payment events of one status and reason ("" where there is none)."""

    def dead_letter(self, agent: str, code: str) -> None:
        """A dead letter was committed."""

    def alert(self, code: str) -> None:
        """A step was committed in which something needs a person's eye."""

    def agent_time(self, agent: str, seconds: float) -> None:
        """An agent decided a batch."""

    def table_rows(self, table: str, rows: int) -> None:
        """About how many rows a table holds, over the partitions of this worker."""

    def lag(self, topic: str, partition: int, records: int, seconds: float) -> None:
        """Records that wait on an input partition, and the age of the oldest; both 0 when there are none."""

    def forget_lag(self) -> None:
        """Partitions may have moved: lags reported so far no longer hold."""

    def rebalance(self, role: str) -> None:
        """Partitions were assigned or taken away."""

    def recovery(self, role: str, remaining: int) -> None:
        """Changelog records that a recovery still has to read; 0 when it is over."""
