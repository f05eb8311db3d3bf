"""The workers' stores from outside: what they hold, once nobody has them open."""

from collections.abc import Mapping
from pathlib import Path

from readers import Place

from topologies.engine.changelog import head_of, rows_of
from topologies.engine.errors import StoreFailed
from topologies.engine.inspect import Snapshot
from topologies.payments import CORE
from topologies.topics import changelog

CHANGELOG = changelog(CORE.role).name
TABLES = [spec.name for spec in CORE.tables()]


class Rows:
    """What a partition's changelog says."""

    def __init__(self) -> None:
        self.last: dict[tuple[str, bytes], bytes] = {}
        """The last row by table and key."""
        self.step = 0
        """The last step."""
        self.base = 0
        """From here on it has all rows."""
        self.damaged = ""
        """The first record that can't be read: why."""

    def take(self, value: bytes) -> None:
        """The next record."""
        try:
            found = list(rows_of(value))
            self.step, self.base, *_ = head_of(value)
        except ValueError as error:
            self.damaged = self.damaged or str(error)
            return
        for table, key, row in found:
            if row is None:
                self.last.pop((table, key), None)
            else:
                self.last[table, key] = row


def compare_with_changelogs(folders: list[Path], rows: Mapping[int, Rows], begins: Mapping[Place, int]) -> str:
    """What differs between stores and the changelog, whose `rows` are given by partition.

    Several workers may have a store of one partition; the newest must be the changelog's, and one must be there.
    A damaged one may lie where no worker has opened it since: it is as good as none.
    Where the changelog's head was deleted (`begins` above its base), the store may hold more.
    """
    stores: dict[int, tuple[int, dict[tuple[str, bytes], bytes], Path]] = {}
    for folder in folders:
        number = int(folder.name.removeprefix("p"))
        try:
            with Snapshot(folder, number) as snapshot:
                step = snapshot.meta.get("step", -1)
                if step > stores.get(number, (-1,))[0]:
                    stored = {(name, key): row for name in TABLES for key, row in snapshot.rows(name)}
                    stores[number] = (step, stored, folder)
        except StoreFailed:
            continue
    numbers = {number for topic, number in begins if topic == CHANGELOG}
    if missing := numbers - set(stores):
        return f"no store of partitions {sorted(missing)} can be read"
    for number, (step, stored, folder) in sorted(stores.items()):
        logged = rows.get(number, Rows())
        if logged.damaged:
            return f"{CHANGELOG} [{number}]: {logged.damaged}"
        if step != logged.step:
            return f"{folder} is at step {step}, its changelog at step {logged.step}"
        keys = {*logged.last} if begins[CHANGELOG, number] > logged.base else {*stored, *logged.last}
        odd = [place for place in keys if stored.get(place) != logged.last.get(place)]
        if odd:
            return (
                f"{folder} at step {step}: {len(odd)} rows differ, {odd[0]!r} is {stored.get(odd[0])!r} in the store, "
                f"{logged.last.get(odd[0])!r} in the changelog"
            )
    return ""
