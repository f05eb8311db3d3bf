"""Times as people read them."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def shown(micros: int | None) -> str | None:
    """µs since 1970 as ISO 8601 in UTC, to the µs: "2025-11-21T10:00:00.000000Z". None stays None."""
    if micros is None:
        return None
    moment = _EPOCH + timedelta(microseconds=micros)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
