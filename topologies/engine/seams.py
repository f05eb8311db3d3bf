"""What the engine needs of the world outside: Kafka's clients, a clock, a disk. A driver may bring its own."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient


class Clock(Protocol):
    """Time and waiting."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def micros(self) -> int:
        """The wall clock: µs since 1970, UTC."""

    def sleep(self, seconds: float) -> None:
        """Waits."""


class SystemClock:
    """The clock of the machine."""

    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    @staticmethod
    def micros() -> int:
        """µs since 1970, UTC."""
        return time.time_ns() // 1000


class WrongClock(SystemClock):
    """For fault tests: its wall clock is wrong by as many seconds as the file says, and may jump at any moment."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def micros(self) -> int:  # type: ignore[override]
        """µs since 1970, wrong."""
        return max(0, SystemClock.micros() + int(self._file.read_text()) * 1_000_000)


def _clock() -> SystemClock:
    file = os.environ.get("HEADRACE_WRONG_CLOCK")
    return WrongClock(Path(file)) if file else SystemClock()


SYSTEM = _clock()


def _free_mb(folder: Path) -> int:
    return shutil.disk_usage(folder).free >> 20


@dataclass(frozen=True)
class Seams:
    """`consumer`, `producer` and `admin` make a client from librdkafka options."""

    consumer: Callable[[dict[str, Any]], Consumer] = Consumer
    producer: Callable[[dict[str, Any]], Producer] = Producer
    admin: Callable[[dict[str, Any]], AdminClient] = AdminClient
    clock: Clock = SYSTEM
    free_mb: Callable[[Path], int] = _free_mb
    """Free space of a folder's disk, MiB."""


REAL = Seams()
