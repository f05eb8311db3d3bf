"""Latencies in µs, three digits exact, up to ten minutes: an HdrHistogram that travels between processes."""

from typing import Any

from hdrh.histogram import HdrHistogram

MOST_US = 600_000_000
DIGITS = 3
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}


class Histogram:
    """Counts values; what is below 1 µs counts as 1, what is above ten minutes as ten minutes."""

    def __init__(self) -> None:
        self._counts = HdrHistogram(1, MOST_US, DIGITS)

    def add(self, micros: int) -> None:
        """Counts one value."""
        self._counts.record_value(min(max(micros, 1), MOST_US))

    def encoded(self) -> bytes:
        """The histogram as bytes: `merge` takes them."""
        found: bytes = self._counts.encode()
        return found

    def merge(self, encoded: bytes) -> None:
        """Adds all values of another histogram."""
        self._counts.decode_and_add(encoded)

    def at(self, percentile: float) -> float | None:
        """The value in ms at a percentile, None where nothing was counted."""
        return round(self._counts.get_value_at_percentile(percentile) / 1_000, 3) if len(self) else None

    def summary(self) -> dict[str, Any]:
        """`latency_ms` of the report."""
        figures = {name: self.at(percentile) for name, percentile in PERCENTILES.items()}
        return {**figures, "max": self.at(100.0), "count": len(self)}

    def __len__(self) -> int:
        return int(self._counts.get_total_count())
