"""What money records tell of, added up per currency: for a manifest, and as a proof of double entry."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

AMOUNT, DEBIT, CREDIT = "amount", "DEBIT", "CREDIT"


def add_record(sums: Counter[str], record: Any) -> None:
    """Adds one record: its amount, or its entries."""
    if hasattr(record, "amount_minor") and hasattr(record, "currency"):
        sums[f"{AMOUNT}/{record.currency}"] += record.amount_minor or 0
    for entry in getattr(record, "entries", ()):
        sums[f"{entry.direction}/{entry.currency}/{entry.layer}"] += entry.amount_minor


def add_table(sums: Counter[str], table: Any) -> None:
    """Adds an Arrow table of records, exactly: amounts are summed up as decimals."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wide = pa.decimal128(38, 0)
    names = set(table.column_names)
    if {"amount_minor", "currency"} <= names:
        few = table.select(["currency"]).append_column("minor", table["amount_minor"].cast(wide))
        for row in few.group_by("currency").aggregate([("minor", "sum")]).to_pylist():
            sums[f"{AMOUNT}/{row['currency']}"] += int(row["minor_sum"] or 0)
    if "entries" in names:
        entries = pc.list_flatten(table["entries"].combine_chunks())
        keys = ["direction", "currency", "layer"]
        few = pa.table({key: pc.struct_field(entries, key) for key in keys})
        few = few.append_column("minor", pc.struct_field(entries, "amount_minor").cast(wide))
        for row in few.group_by(keys).aggregate([("minor", "sum")]).to_pylist():
            sums["/".join(row[key] for key in keys)] += int(row["minor_sum"] or 0)


def told(sums: Mapping[str, int]) -> dict[str, Any]:
    """Sums as a manifest tells them: `sums` in minor units by currency, `double_entry` by currency and layer."""
    amounts: dict[str, int] = {}
    entries: dict[str, dict[str, dict[str, Any]]] = {}
    for name, minor in sorted(sums.items()):
        kind, *where = name.split("/")
        if kind == AMOUNT:
            amounts["/".join(where)] = minor
        else:
            currency, layer = "/".join(where[:-1]), where[-1]
            sides = entries.setdefault(currency, {}).setdefault(layer, {DEBIT: 0, CREDIT: 0})
            sides[kind] = sides.get(kind, 0) + minor
    for layers in entries.values():
        for sides in layers.values():
            sides["balanced"] = sides[DEBIT] == sides[CREDIT]
    return {"sums": amounts} | ({"double_entry": entries} if entries else {})


def balanced(sums: Mapping[str, int]) -> bool:
    """Whether debits equal credits in every currency and layer; true where there are no entries."""
    layers = [layer for layers in told(sums).get("double_entry", {}).values() for layer in layers.values()]
    return all(layer["balanced"] for layer in layers)
