"""What the pages ask for by name, as JSON: a payment's story, an account, a dead letter. Reads topics; may take a while."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import Event
from typing import Any

from headrace.cli import account as account_command
from headrace.cli import dlq as dlq_command
from headrace.cli import replay as replay_command
from headrace.dlq import rows
from headrace.moments import shown
from replay.accounts import AccountBooks, account_books
from replay.letters import Letter, LetterId, receipts, the_letter
from replay.reader import Place, Raw, Unreachable
from replay.source import Source
from replay.story import Told, answered, story
from replay.window import BadWindow, parse_moment
from schemas.money import format_minor
from topologies.topics import REDRIVES

READ_S = 60.0
"""A view that takes longer is given up."""
NEWEST = 20
"""Dead letters that are shown one by one."""
ENTRIES = 20
"""Entries of an account that are shown."""
Open = Callable[[], AbstractContextManager[Source]]


class Bounded:
    """A source that stops reading at a deadline, or when the console stops."""

    def __init__(self, source: Source, stop: Event, seconds: float = READ_S) -> None:
        self._source, self._stop, self._seconds = source, stop, seconds
        self._deadline = time.monotonic() + seconds

    def require(self, topics: Sequence[str]) -> dict[str, int]:
        """As the source's."""
        self._check()
        return self._source.require(topics)

    def ends(self, topics: Sequence[str]) -> dict[Place, int]:
        """As the source's."""
        self._check()
        return self._source.ends(topics)

    def starts(self, topics: Sequence[str]) -> dict[Place, int]:
        """As the source's."""
        self._check()
        return self._source.starts(topics)

    def read(self, topic: str, ends: Mapping[Place, int], starts: Mapping[Place, int] | None = None) -> Iterator[Raw]:
        """As the source's. Raises Unreachable at the deadline."""
        for raw in self._source.read(topic, ends, starts):
            self._check()
            yield raw

    def _check(self) -> None:
        if self._stop.is_set():
            raise Unreachable("the console is stopping")
        if time.monotonic() > self._deadline:
            raise Unreachable(
                f"reading took longer than {self._seconds:.0f} s; name the debtor, or ask the command line, which has "
                "no such limit (headrace replay payment, headrace account show, headrace dlq list)"
            )


class Views:
    """The views of one cluster; each call opens a source of its own, so calls may run side by side."""

    def __init__(self, source: Open, prefix: str = "") -> None:
        """`prefix` is that of the topics."""
        self._source, self._prefix = source, prefix
        self.stop = Event()
        """Set: what reads now gives up."""

    @contextmanager
    def _open(self) -> Iterator[Source]:
        with self._source() as source:
            yield Bounded(source, self.stop)

    def payment(self, payment_id: str, debtor: str | None = None) -> dict[str, Any]:
        """A payment's story: as `headrace replay payment --json`, with each record in words. Raises as `story`."""
        with self._open() as source:
            found = story(source, payment_id, debtor, self._prefix)
        note = ""
        if not answered(found):
            note = f"payment {payment_id} has no answer yet: a worker must take its next step (`headrace lag`)"
        records = [_told(one) for one in found]
        return {**replay_command.summary(payment_id, found), "note": note, "records": records}

    def account(self, account: str, as_of: str | None = None, entries: int = ENTRIES) -> dict[str, Any]:
        """An account: as `headrace account show --json`, amounts in words too. Raises as `account_books`, BadWindow."""
        until = None if as_of is None else _moment(as_of)
        with self._open() as source:
            found = account_books(source, account, entries, until)
        return _books(found, until)

    def letter(self, letter: str) -> dict[str, Any]:
        """A dead letter: as `headrace dlq show --json`. Raises as `the_letter`, BadLetterId."""
        where = LetterId.parse(letter)
        with self._open() as source:
            found = the_letter(source, where, self._prefix)
            redriven = where in (receipts(source) if REDRIVES.name in source.require([]) else ())
        return {**dlq_command.letter_dict(found, redriven=redriven), "amount": _amount(found)}


def told_letters(found: Sequence[Letter], done: set[LetterId]) -> dict[str, Any]:
    """Letters as the page shows them: as `headrace dlq list --json`, summary, rows and the newest ones."""
    counted = rows(found, done)
    newest = sorted(found, key=lambda one: (one.at, one.id), reverse=True)[:NEWEST]
    summary = dlq_command.summary_dict(counted)
    return {
        "at": time.time(),
        **summary,
        "money_shown": amounts(summary["money"]),
        "rows": [{**dlq_command.row_dict(row), "money_shown": amounts(row.money)} for row in counted],
        "newest": [{**dlq_command.brief_dict(one, redriven=one.id in done), "amount": _amount(one)} for one in newest],
    }


def amount(minor: int, currency: str) -> str:
    """As in "1,234.50 EUR"; minor units where the currency is one that was refused (AM11)."""
    try:
        text = format_minor(minor, currency)
    except ValueError:
        return f"{minor:,} minor units of {currency!r}"
    whole, point, decimals = text.partition(".")
    sign = "-" if whole.startswith("-") else ""
    return f"{sign}{int(whole.removeprefix('-')):,}{point}{decimals} {currency}"


def amounts(money: Mapping[str, int]) -> list[str]:
    """Each currency's amount."""
    return [amount(minor, currency) for currency, minor in sorted(money.items())]


def _amount(record: Any) -> str | None:
    money = replay_command.money_of(record)
    return None if money is None else amount(*money)


def _told(told: Told) -> dict[str, Any]:
    """A record of a story: what it is in a word, what it says, and all its fields."""
    what, detail = replay_command.words(told)
    fields = replay_command.as_dict(told)
    place = {name: fields.pop(name) for name in ("topic", "partition", "offset", "at")}
    return {
        **place, "debtor": told.debtor, "what": what, "detail": detail, "amount": _amount(told.record),
        "repeat": told.repeat, "fields": fields,
    }  # fmt: skip


def _moment(text: str) -> int:
    """A time that has come, µs. Raises BadWindow."""
    now = time.time_ns() // 1_000
    moment = parse_moment(text, now)
    if moment > now:
        raise BadWindow(f"as_of {shown(moment)} is in the future: it is {shown(now)}")
    return moment


def _books(found: AccountBooks, until: int | None) -> dict[str, Any]:
    told = account_command.as_dict(found, until)
    for one, balance in zip(told["balances"], found.balances, strict=True):
        one["posted"] = amount(balance.posted, balance.currency)
        one["held"] = amount(balance.held, balance.currency)
        one["available"] = None if balance.available is None else amount(balance.available, balance.currency)
    for entry, line in zip(told["entries"], found.entries, strict=True):
        entry["amount"] = amount(line.amount_minor, line.currency)
    return told
