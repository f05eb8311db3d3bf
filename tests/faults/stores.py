"""The workers' stores from outside: what they hold, once nobody has them open."""

from collections.abc import Mapping
from pathlib import Path

import orjson
from readers import Place
from rocksdict import AccessType, Options, Rdict

from topologies.engine.store import META

CHANGELOG = "headrace.changelog."


def rows_of(folder: Path) -> tuple[dict[str, object] | None, dict[str, dict[bytes, bytes]]]:
    """The meta record and the rows by table of one store."""
    db = Rdict(str(folder), options=Options(raw_mode=True), access_type=AccessType.read_only())
    meta, tables = None, {}
    for key, value in db.items():
        if key == META:
            meta = orjson.loads(value)
        else:
            table, _, row = key.partition(b"\x00")
            tables.setdefault(table.decode(), {})[row] = value
    db.close()
    return meta, tables


def compare_with_changelogs(
    folders: list[Path], rows: Mapping[Place, Mapping[bytes, bytes]], begins: Mapping[Place, int]
) -> str:
    """What differs between stores and changelogs.

    Several workers may have a store of one partition; the newest must be the changelog's, and one must be there.
    Where a changelog's head was deleted (`begins` above 0), the store may hold more.
    """
    stores: dict[int, tuple[dict, dict, Path]] = {}
    for folder in folders:
        number = int(folder.name.removeprefix("p"))
        meta, tables = rows_of(folder)
        if meta is not None and (number not in stores or meta["step"] > stores[number][0]["step"]):
            stores[number] = (meta, tables, folder)
    numbers = {number for topic, number in begins if topic.startswith(CHANGELOG)}
    if missing := numbers - set(stores):
        return f"no store of partitions {sorted(missing)}"
    for number, (meta, tables, folder) in sorted(stores.items()):
        for table in sorted({*tables, *(topic.removeprefix(CHANGELOG) for topic, n in rows if n == number)}):
            stored, logged = tables.get(table, {}), rows.get((CHANGELOG + table, number), {})
            keys = {*logged} if begins[CHANGELOG + table, number] else {*stored, *logged}
            odd = [key for key in keys if stored.get(key) != logged.get(key)]
            if odd:
                return (
                    f"{folder} at step {meta['step']}: {len(odd)} rows of {table} differ, {odd[0]!r} is "
                    f"{stored.get(odd[0])!r} in the store, {logged.get(odd[0])!r} in the changelog"
                )
    return ""
