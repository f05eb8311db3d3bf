"""Lines of JSON and CSV: what they become, and what a bad one is told."""

import io
import json
from datetime import UTC, datetime

import pytest

from headrace.checks import Refused
from headrace.lines import LINE_BYTES, read_lines
from schemas.events import AccountAction, AccountCommand, AliasAction, AliasClaim, Intent, Kind

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
NOW_MICROS = 1_795_251_600_000_000
LEAST = {"debtor": "alice", "creditor": "bob", "amount": "12.34", "currency": "EUR"}


def read(content, to="intents", form="jsonl"):
    """The lines of `content`: bytes, text, or objects to be written as JSON."""
    if isinstance(content, list):
        content = "".join(json.dumps(one) + "\n" for one in content)
    source = io.BytesIO(content if isinstance(content, bytes) else content.encode())
    return list(read_lines(source, to, form, now=lambda: NOW))


def one(content, to="intents", form="jsonl"):
    (line,) = read(content, to, form)
    assert line.refused is None, line.refused
    return line.record


def refusal(content, to="intents", form="jsonl"):
    line = read(content, to, form)[-1]
    assert line.record is None
    return str(line.refused)


def test_an_intent_needs_no_more_than_who_whom_and_how_much():
    """Ids are made, the time is now, the kind is TRANSFER."""
    intent = one([LEAST])
    assert intent.intent_id == intent.payment_id == intent.idempotency_key
    assert len(intent.intent_id) == 36
    assert (intent.kind, intent.amount_minor, intent.requested_at) == (Kind.TRANSFER, 1234, NOW_MICROS)


def test_every_field_of_an_intent_can_be_given():
    """What stands in the line stands in the record."""
    given = {
        "intent_id": "i", "idempotency_key": "k", "kind": "APPROVE", "payment_id": "p", "debtor": "alice",
        "creditor": "bob", "amount_minor": 5, "currency": "JPY", "requested_at": NOW_MICROS, "expires_at": NOW_MICROS + 1,
        "creditor_alias": "HANDLE:bob", "latitude": 52.5, "longitude": 13, "device_id": "d", "channel": "APP",
        "metadata": {"order": "17"}, "decided_by": "carol", "method": "QR",
    }  # fmt: skip
    assert list(given) == list(Intent._fields)
    assert one([given])._asdict() == given


def test_csv_and_json_say_the_same():
    """Empty cells are left out, numbers and lists are read."""
    csv = "debtor,creditor,amount,currency,intent_id,latitude,longitude,metadata,requested_at\n"
    csv += 'alice,bob,12.34,EUR,i,52.5,13,"{""order"": ""17""}",2026-11-21T10:00:00+01:00\n'
    line = LEAST | {"intent_id": "i", "latitude": 52.5, "longitude": 13.0, "metadata": {"order": "17"}}
    assert one("\ufeff" + csv, form="csv") == one([line])
    accounts = "account,command,currency,flags\nalice,,EUR,NO_OVERDRAFT MERCHANT\n"
    made = one(accounts, "accounts", "csv")
    wanted = AccountCommand(
        made.command_id, "alice", AccountAction.OPEN, "EUR", NOW_MICROS, flags=("NO_OVERDRAFT", "MERCHANT")
    )
    assert made == wanted


def test_an_alias_is_claimed_in_its_normal_form():
    """Every spelling of an alias gets the same key."""
    claim = one([{"alias": "email: Bob@Example.org", "account": "bob", "claim_id": "c"}], "aliases")
    assert claim == AliasClaim("c", "EMAIL:bob@example.org", "bob", AliasAction.CLAIM, NOW_MICROS)


def test_an_alias_can_stand_for_the_creditor():
    """The creditor is then found by the pipeline."""
    line = {name: value for name, value in LEAST.items() if name != "creditor"} | {"creditor_alias": "HANDLE:bob"}
    assert one([line]).creditor == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"debtr": "x"}, "debtr is no field of the schema; did you mean debtor?"),
        ({"debtor": None}, "debtor is missing"),
        ({"debtor": ""}, "debtor is empty"),
        ({"debtor": 7}, "debtor is 7; it must be text"),
        ({"debtor": "x" * 256}, "it must be text of at most 255 bytes"),
        ({"debtor": "~fees"}, "accounts that start with ~ are the ledger's own"),
        ({"debtor": "4111111111111111"}, "debtor holds a card number"),
        ({"creditor": "alice"}, "creditor is the debtor too"),
        ({"creditor": ""}, "name the creditor's account, or a creditor_alias"),
        ({"amount": 12.34}, "amount is 12.34, no text; write it as text"),
        ({"amount": "12.345"}, "amount is '12.345'"),
        ({"amount": "0.00"}, "amount_minor is 0"),
        ({"amount": None, "amount_minor": 10**15}, "it must be 1 to 999999999999999 minor units"),
        ({"amount": None, "amount_minor": True}, "amount_minor is True"),
        ({"amount": None}, "amount_minor is missing"),
        ({"amount_minor": 1234}, "amount stands beside amount_minor"),
        ({"currency": "EURO"}, "currency is 'EURO'"),
        ({"kind": "PAY"}, "kind is 'PAY'; it must be one of TRANSFER"),
        ({"kind": "UNKNOWN"}, "kind is 'UNKNOWN'"),
        ({"kind": "REJECT"}, "decided_by is missing"),
        ({"requested_at": "2026-11-21T09:00:00"}, "has no zone"),
        ({"requested_at": "yesterday"}, "write ISO 8601"),
        ({"requested_at": NOW_MICROS // 1000}, "it must be a time in µs since 1970"),
        ({"latitude": 52.5}, "longitude is missing"),
        ({"latitude": 91, "longitude": 0}, "it must be -90 to 90 degrees"),
        ({"creditor_alias": "PHONE:1"}, "write MSISDN:, EMAIL:, IBAN: or HANDLE:"),
        ({"metadata": {"a": 1}}, "metadata is {'a': 1}"),
        ({"metadata": {"a": "x" * 5000}}, "of at most 4096 bytes"),
    ],
)
def test_a_bad_intent_is_refused_with_field_reason_and_way_out(change, told):
    """Whatever is wrong, the line says which field, why, and what to write."""
    assert told in refusal([LEAST | change])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"account": "a"}, "currency is missing"),
        ({"account": "a", "currency": "XAU"}, "currency is 'XAU'"),
        ({"account": "a", "currency": "EUR", "flags": ["OVERDRAFT"]}, "flags hold 'OVERDRAFT'"),
        ({"account": "a", "currency": "EUR", "command": "CLOSE", "flags": ["MERCHANT"]}, "flags of CLOSE are: none"),
        (
            {"account": "a", "currency": "EUR", "command": "LIMIT", "window_s": 60},
            "window_s is 60; it must be one of 3600",
        ),
        ({"account": "a", "currency": "EUR", "command": "LIMIT", "max_count": -1}, "max_count is -1"),
        ({"account": "a", "currency": "EUR", "command": "LIMIT", "max_count": 5}, "window_s is missing"),
        ({"account": "4111111111111111", "currency": "EUR"}, "account holds a card number"),
        ({"account": "a", "currency": "EUR", "amount": "1.00"}, "amount is no field"),
    ],
)
def test_a_bad_account_command_is_refused(line, told):
    """Commands are held to their own flags and windows."""
    assert told in refusal([line], "accounts")


def test_card_numbers_are_found_wherever_they_make_a_dead_letter():
    """R44: pan_guard is about accounts; a device, or a payee's handle, never is a card."""
    card = "4111 1111 1111 1111"
    lines = (LEAST | {"device_id": card}, LEAST | {"creditor": "", "creditor_alias": f"HANDLE:{card}"})
    for line, field in zip(lines, ("device_id", "creditor_alias"), strict=True):
        for guard in (True, False):
            (found,) = read_lines(io.BytesIO(json.dumps(line).encode()), "intents", "jsonl", pan_guard=guard)
            assert f"{field} holds a card number" in str(found.refused)
    claim = {"alias": "EMAIL:a@example.org", "account": card, "command": "RELEASE"}
    assert "account holds a card number" in refusal([claim], "aliases")
    (found,) = read_lines(io.BytesIO(json.dumps(claim).encode()), "aliases", "jsonl", pan_guard=False)
    assert found.refused is None


@pytest.mark.parametrize("digits", ["9" * 5_000, "\u0661\u0662"])
@pytest.mark.parametrize("column", ["amount_minor", "requested_at"])
def test_a_cell_that_is_no_number_is_refused_in_few_words(column, digits):
    """Too many digits for Python, or another script's."""
    told = refusal(f"debtor,{column}\nalice,{digits}\n", form="csv")
    assert told.startswith(f"{column} is ")
    assert len(told) < 200


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "line is no JSON"),
        ("[]", "line is a JSON list"),
        (b'{"debtor": "\xff"}', "line is no JSON"),
        (b'"' + b"x" * (LINE_BYTES + 1) + b'"\n', "line is longer than"),
    ],
)
def test_a_line_that_is_no_json_is_refused(content, told):
    """The rest of the file is not touched by it."""
    assert told in refusal(content)


def test_bad_lines_keep_their_numbers_and_spoil_no_other():
    """Numbers count blank lines too; a line that is far too long counts as one."""
    good = json.dumps(LEAST).encode()
    lines = read(b"\n".join([good, b"", b"{", b"x" * (3 * LINE_BYTES), good, b""]))
    assert [(line.number, line.refused is None) for line in lines] == [(1, True), (3, False), (4, False), (5, True)]
    content = b'debtor,creditor,amount,currency\nalice,bob,1.00,EUR\nalice,"b,1.00,EUR\na,b\n\xff,b,1.00,EUR\nalice,bob,1e1,EUR\nalice,bob,2.00,EUR\n'
    lines = read(content, form="csv")
    assert [(line.number, line.refused is None) for line in lines] == [
        (2, True), (3, False), (4, False), (5, False), (6, False), (7, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("heading", "told"),
    [("debtor,credtor", "did you mean creditor?"), ("debtor,debtor", "stands twice"), ("debtor,", "is no field")],
)
def test_a_wrong_heading_ends_the_file(heading, told):
    """With it every line would be wrong."""
    with pytest.raises(Refused) as caught:
        read(f"{heading}\nalice,bob\n", form="csv")
    assert told in str(caught.value)
