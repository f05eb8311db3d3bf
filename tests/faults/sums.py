"""The sums of all campaigns, in a file that later runs add to."""

import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any


class Sums:
    """Counts by kind of fault, and figures. `path` None keeps them in memory only."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        kept = json.loads(path.read_text("utf-8")) if path is not None and path.exists() else {}
        self.faults = Counter(kept.get("faults", {}))
        """Rounds that count, by kind."""
        self.void = Counter(kept.get("void", {}))
        self.stopped = Counter(kept.get("stopped", {}))
        """Workers that stopped with an allowed reason, by kind."""
        self.kills_by_point = Counter(kept.get("kills_by_point", {}))
        self.verdicts = Counter(kept.get("verdicts", {}))
        """How often each promise was judged and held."""
        self.violations: list[dict[str, Any]] = kept.get("violations", [])
        self.payments: int = kept.get("payments", 0)
        self.poison: int = kept.get("poison", 0)
        self.aborted: int = kept.get("aborted", 0)
        """Records of transactions that were aborted, as seen in the read_uncommitted view."""
        self.lives: int = kept.get("lives", 0)
        """How often a watchdog started a worker anew."""
        self.recovery_s: list[float] = kept.get("recovery_s", [])
        self.first_commit_s: dict[str, list[float]] = kept.get("first_commit_s", {"warm": [], "lost_store": []})
        self.minutes: float = kept.get("minutes", 0.0)

    def to_json(self) -> dict[str, Any]:
        """Everything, with the single figures."""
        return {name: value for name, value in vars(self).items() if name != "path"}

    def shown(self) -> dict[str, Any]:
        """Everything, with medians and maxima for figures."""
        shown = self.to_json()
        shown.pop("first_commit_s")
        shown["recovery_s"] = _spread(self.recovery_s)
        shown["sigkill_to_first_commit_s"] = {name: _spread(values) for name, values in self.first_commit_s.items()}
        shown["minutes"] = round(self.minutes, 1)
        return shown

    def write(self) -> None:
        """The file as it should be now: whole, or as it was."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.part")
        part.write_text(json.dumps(self.to_json(), indent=1) + "\n", "utf-8")
        part.replace(self.path)


def _spread(values: list[float]) -> dict[str, float] | None:
    return {"p50": round(statistics.median(values), 2), "max": round(max(values), 2)} if values else None
