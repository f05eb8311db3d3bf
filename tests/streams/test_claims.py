"""Claims of aliases: one owner, the same on every worker (R24, R25), as `streams/admission.py` decides them."""

from typing import Any

from builders import AT, PARTITIONS, a_claim, a_turn, an_intent, memory, received
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import AliasAction
from schemas.keys import partition_of
from schemas.reasons import Reason
from streams.admission import ALIAS_REST, TABLES, AdmissionTables, claim, fold_alias, owner_key
from streams.rules import DAY, Rules
from streams.turn import AliasOwner, Received

PAN = "4111111111111111"
SHOP = "EMAIL:shop@example.org"


def answers(*claims: Received, rules: Rules | None = None) -> list[tuple[str, bool, Any]]:
    turn = a_turn(memory(AdmissionTables, TABLES), rules=rules)
    decided = claim(claims, turn)
    assert not decided.letters, decided.letters
    assert all((out.topic, out.key) == ("accounts.events", out.value.account) for out in decided.records)
    return [(out.value.account, out.value.accepted, out.value.reason) for out in decided.records]


def released(account: str = "shop", offset: int = 0, **fields: Any) -> Received:
    return received(a_claim(account=account, command=AliasAction.RELEASE), offset, **fields)


def test_first_wins_and_only_the_owner_releases() -> None:
    """The life of an alias up to its release (R24)."""
    assert answers(
        released(),
        received(a_claim(), 1),
        received(a_claim(account="thief"), 2),
        received(a_claim(), 3),
        released("thief", 4),
        released("shop", 5),
        received(a_claim(), 6),
        released("shop", 7),
    ) == [
        ("shop", False, Reason.NOT_THE_OWNER),
        ("shop", True, None),
        ("thief", False, Reason.ALIAS_TAKEN),
        ("shop", True, None),
        ("thief", False, Reason.NOT_THE_OWNER),
        ("shop", True, None),
        ("shop", False, Reason.ALIAS_RESTING),
        ("shop", False, Reason.NOT_THE_OWNER),
    ]


def test_a_freed_alias_rests_a_day_by_the_brokers_time() -> None:
    """One µs before the end it rests, at the end it is free; the step's time plays no part (R24)."""
    start = [received(a_claim()), released(offset=1)]
    early = received(a_claim(account="new"), 2, timestamp=AT + ALIAS_REST - 1)
    late = received(a_claim(account="new"), 3, timestamp=AT + ALIAS_REST)
    assert answers(*start, early, late)[2:] == [("new", False, Reason.ALIAS_RESTING), ("new", True, None)]


def test_a_claim_that_means_nothing_is_refused() -> None:
    """It gets an answer, in which the reason stands (R11, R23)."""
    rows = (
        (Reason.BAD_FORM, a_claim(command=AliasAction.UNKNOWN)),
        (Reason.BAD_FORM, a_claim("EMAIL:nobody")),
        (Reason.BAD_FORM, a_claim("EMAIL:Shop@example.org")),
        (Reason.BAD_FORM, a_claim(claim_id="")),
        (Reason.AG01, a_claim(account="~fees/EUR/0-1")),
    )
    for reason, each in rows:
        assert answers(received(each)) == [(each.account, False, reason)], each


def test_a_claim_that_breaks_the_contract_is_a_dead_letter() -> None:
    """The key names the alias and stands on its partition, the account can be answered, no card numbers."""
    elsewhere = (partition_of(SHOP, PARTITIONS) + 1) % PARTITIONS
    rows = (
        ("key-mismatch", received(a_claim(), key=b"EMAIL:other@example.org")),
        ("key-mismatch", received(a_claim(), key=None)),
        ("key-mismatch", received(a_claim(), key=b"\xff")),
        ("wrong-partition", received(a_claim(), partition=elsewhere)),
        ("bad-account", received(a_claim(account=""))),
        ("pan-refused", received(a_claim(f"HANDLE:{PAN}"))),
        ("pan-refused", received(a_claim(account=PAN))),
    )
    for code, each in rows:
        decided = claim([each], a_turn(memory(AdmissionTables, TABLES)))
        assert [letter.code for letter in decided.letters] == [code]
        assert not decided.records
        assert PAN not in decided.letters[0].message
    assert answers(received(a_claim(account=PAN)), rules=Rules(pan_guard=False)) == [(PAN, True, None)]


def test_a_key_in_normal_form_may_carry_another_spelling() -> None:
    """The record key decides about partition and order; the value may be as a person wrote it."""
    spelt = received(a_claim("email:Shop@Example.org"), key=SHOP.encode(), partition=partition_of(SHOP, PARTITIONS))
    assert answers(spelt) == [("shop", True, None)]


ALIASES = (SHOP, "HANDLE:shop", "EMAIL:Shop@example.org", "nonsense", f"HANDLE:{PAN}")


@st.composite
def claim_records(draw: st.DrawFn) -> list[Received]:
    found = []
    for offset in range(draw(st.integers(0, 25))):
        alias = draw(st.sampled_from(ALIASES))
        account = draw(st.sampled_from(("shop", "thief", "", "~fees", PAN)))
        value = a_claim(alias, account, command=draw(st.sampled_from(AliasAction)))
        each = received(value, offset, timestamp=AT + draw(st.integers(0, 3)) * (ALIAS_REST // 2))
        if draw(st.integers(0, 9)) == 0:
            each = each._replace(partition=draw(st.integers(0, PARTITIONS - 1)))
        if draw(st.integers(0, 9)) == 0:
            each = each._replace(key=draw(st.sampled_from((None, SHOP.encode(), b"\xff"))))
        found.append(each)
    return found


@settings(deadline=None)
@given(records=claim_records(), cut=st.integers(0, 25), guard=st.booleans(), later=st.integers(0, 3 * DAY))
def test_a_fold_comes_to_the_owners_that_the_claims_partition_answered(
    records: list[Received], cut: int, guard: bool, later: int
) -> None:
    """However steps are cut, whenever they run and whatever the settings: one owner everywhere (R24, R25)."""
    rows: dict[str, AliasOwner] = {}
    for each in records:
        fold_alias(rows, each)
    tables = memory(AdmissionTables, TABLES)
    rules = Rules(pan_guard=guard)
    for batch, at in ((records[:cut], AT), (records[cut:], AT + later)):
        claim(batch, a_turn(tables, at=at, rules=rules))
    assert tables.aliases.rows == rows


def test_a_claim_that_gets_no_answer_is_folded_as_the_claims_partition_keeps_it() -> None:
    """A card number as account, or a wrong partition: dead letters, and still one owner everywhere (R25)."""
    for each in (received(a_claim(account=PAN)), received(a_claim(), partition=0), received(a_claim(), partition=1)):
        rows: dict[str, AliasOwner] = {}
        fold_alias(rows, each)
        tables = memory(AdmissionTables, TABLES)
        assert claim([each], a_turn(tables)).letters
        assert tables.aliases.rows == rows
        assert rows


def test_what_is_no_claim_never_stops_a_fold() -> None:
    """Undecodable or foreign records change nothing."""
    owned = {owner_key(SHOP, partition_of(SHOP, PARTITIONS)): AliasOwner("shop", 7)}
    rows = dict(owned)
    for value in (None, b"\x00broken", an_intent()):
        fold_alias(rows, received(a_claim())._replace(value=value))
    assert rows == owned
