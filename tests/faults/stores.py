"""The workers' stores from outside: what they hold, once nobody has them open."""

from collections.abc import Mapping
from pathlib import Path

from readers import Place

from topologies.engine.errors import StoreFailed
from topologies.engine.inspect import Snapshot

CHANGELOG = "headrace.changelog."


def compare_with_changelogs(
    folders: list[Path], rows: Mapping[Place, Mapping[bytes, bytes]], begins: Mapping[Place, int]
) -> str:
    """What differs between stores and changelogs.

    Several workers may have a store of one partition; the newest must be the changelog's, and one must be there.
    A damaged one may lie where no worker has opened it since: it is as good as none.
    Where a changelog's head was deleted (`begins` above 0), the store may hold more.
    """
    names = sorted({topic.removeprefix(CHANGELOG) for topic, _ in begins if topic.startswith(CHANGELOG)})
    stores: dict[int, tuple[int, dict[str, dict[bytes, bytes]], Path]] = {}
    for folder in folders:
        number = int(folder.name.removeprefix("p"))
        try:
            with Snapshot(folder, number) as snapshot:
                step = snapshot.meta.get("step", -1)
                if step > stores.get(number, (-1,))[0]:
                    stores[number] = (step, {name: dict(snapshot.rows(name)) for name in names}, folder)
        except StoreFailed:
            continue
    numbers = {number for topic, number in begins if topic.startswith(CHANGELOG)}
    if missing := numbers - set(stores):
        return f"no store of partitions {sorted(missing)} can be read"
    for number, (step, tables, folder) in sorted(stores.items()):
        for table, stored in tables.items():
            logged = rows.get((CHANGELOG + table, number), {})
            keys = {*logged} if begins.get((CHANGELOG + table, number)) else {*stored, *logged}
            odd = [key for key in keys if stored.get(key) != logged.get(key)]
            if odd:
                return (
                    f"{folder} at step {step}: {len(odd)} rows of {table} differ, {odd[0]!r} is "
                    f"{stored.get(odd[0])!r} in the store, {logged.get(odd[0])!r} in the changelog"
                )
    return ""
