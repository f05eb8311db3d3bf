"""Screening: each rule at its boundary, the profile, and what never happens (R41 to R43)."""

from typing import Any

import orjson
import pytest
from builders import AT, a_turn, an_intent, memory
from hypothesis import given, settings
from hypothesis import strategies as st
from screened import Bench, JsonTable, admitted, located

from schemas.events import Kind, RiskDecision
from streams.rules import DAY, HOUR, MINUTE, Rules, ScreeningRules
from streams.screening import (
    BUCKET,
    BUCKETS_MOST,
    CURRENCIES_MOST,
    DEVICES_MOST,
    PAYEES_MOST,
    SPANS,
    SPENT_MOST,
    TABLES,
    ScreeningTables,
    distance_km,
    log_amount,
    screen,
    tag,
)
from streams.turn import Admitted, Screened

SECOND = 1_000_000
BERLIN, PARIS, SYDNEY = (52.52, 13.405), (48.857, 2.352), (-33.869, 151.209)


@pytest.mark.parametrize(("name", "place"), [("velocity-1m", 0), ("velocity-1h", 1), ("velocity-24h", 2)])
def test_velocity_fires_at_its_count_within_its_window(name: str, place: int) -> None:
    """Four attempts before are below five; the fifth is not; a window later none are left."""
    span = SPANS[place] * BUCKET
    start = -AT % DAY
    bench = Bench(**{name.replace("-", "_"): 5})
    for n in range(5):
        assert name not in bench.pay(start + n).risk_reasons
    assert name in bench.pay(start + 5).risk_reasons
    assert name in bench.pay(start + span - 1).risk_reasons
    assert name not in bench.pay(start + 2 * span).risk_reasons


def test_a_sum_stays_within_64_bits_whatever_is_asked_for() -> None:
    """A row is kept as JSON; the sum is far above every limit by then, so no verdict changes."""
    bench = Bench(velocity_1m=0, velocity_1h=0, velocity_24h=0)
    bench.tables = ScreeningTables(JsonTable())
    bench.pay(amount_minor=1)
    profile = bench.tables.profiles.get("alice")
    full = [*profile.flows[0][:6], [SPENT_MOST - 1]]
    bench.tables.profiles.put("alice", profile._replace(flows=[full]))
    most = 10**15 - 1
    for after in (0, 5 * SECOND, 1, 20 * MINUTE, 2, 3 * HOUR):
        one = bench.pay(after, at=4 * HOUR, amount_minor=most)
    assert "spend-24h" in one.risk_reasons
    assert max(bench.tables.profiles.get("alice").flows[0][6]) == SPENT_MOST


@pytest.mark.parametrize(("name", "place"), [("spend-1m", 0), ("spend-1h", 1), ("spend-24h", 2)])
def test_spend_fires_at_its_sum_within_its_window(name: str, place: int) -> None:
    """The sum of what was accepted before, in the same currency, to the cent."""
    limits = [0, 0, 0]
    limits[place] = 1000
    bench = Bench(spend_minor={"EUR": tuple(limits)})
    start = -AT % DAY
    bench.pay(start, amount_minor=999)
    assert name not in bench.pay(start + 1, amount_minor=1).risk_reasons
    assert name in bench.pay(start + 2).risk_reasons
    assert name not in bench.pay(start + 3, currency="USD").risk_reasons
    span = SPANS[place] * BUCKET
    assert name not in bench.pay(start + 2 * span).risk_reasons


def test_velocity_counts_attempts_in_every_currency() -> None:
    """Changing the currency hides no burst."""
    bench = Bench(velocity_1m=2)
    bench.pay(0, currency="EUR")
    bench.pay(1, currency="USD")
    assert "velocity-1m" in bench.pay(2, currency="CHF").risk_reasons


def test_a_burst_of_plain_payments_is_approved() -> None:
    """A thousand payments in a second, each to a payee never seen, whatever windows they fill (R41)."""
    bench = Bench()
    for n in range(1000):
        one = bench.pay(n * 1000, creditor=f"worker-{n}", amount_minor=250_000)
        assert one.risk_decision == RiskDecision.APPROVE
    assert {"velocity-1m", "velocity-1h", "velocity-24h", "spend-24h", "new-payee"} <= set(one.risk_reasons)
    assert one.risk_score == 500


def test_travel_is_impossible_above_its_speed_and_distance() -> None:
    """Berlin to Paris, 878 km: an hour is too short for 877 km/h and enough for 878; 100 km need no time."""
    assert 877 < distance_km((52520, 13405), (48857, 2352)) < 878
    for kmh, expected in ((877, True), (878, False)):
        bench = Bench(travel_kmh=kmh)
        bench.pay(0, **located(BERLIN))
        one = bench.pay(HOUR, **located(PARIS))
        assert ("impossible-travel" in one.risk_reasons) is expected
    for km, expected in ((877, True), (878, False)):
        bench = Bench(travel_km=km)
        bench.pay(0, **located(BERLIN))
        assert ("impossible-travel" in bench.pay(0, **located(PARIS)).risk_reasons) is expected


def test_travel_or_a_new_payee_alone_never_declines() -> None:
    """Not even with weights that reach DECLINE together (R41)."""
    bench = Bench(impossible_travel_weight=899, new_payee_weight=899)
    bench.pay(0, **located(BERLIN))
    one = bench.pay(1, creditor="other", **located(SYDNEY))
    assert one.risk_reasons == ("impossible-travel", "new-payee")
    assert (one.risk_decision, one.risk_score) == (RiskDecision.REVIEW, 1000)


def test_a_busy_account_that_pays_more_than_ever_is_reviewed_not_declined() -> None:
    """Nobody else seems to pay, and from a review the new habit is learnt."""
    bench = Bench()
    for n in range(400):
        bench.pay(n * MINUTE, amount_minor=100)
    found = [bench.pay((400 + n) * MINUTE, amount_minor=100_000).risk_decision for n in range(200)]
    assert found[0] == RiskDecision.REVIEW
    assert found[-1] == RiskDecision.APPROVE
    assert RiskDecision.DECLINE not in found


def test_a_place_is_learnt_across_the_date_line_and_without_coordinates_nothing_fires() -> None:
    """Missing is null, never 0; 180° east is 180° west."""
    bench = Bench()
    bench.pay(0, **located((0.0, 179.999)))
    assert "impossible-travel" not in bench.pay(1, **located((0.0, -179.999))).risk_reasons
    assert "impossible-travel" not in bench.pay(2).risk_reasons
    assert "impossible-travel" in bench.pay(3, **located((0.0, 0.0))).risk_reasons


def test_travel_is_measured_from_the_latest_place_in_time() -> None:
    """A later place takes over; an intent that comes late does not."""
    bench = Bench()
    bench.pay(0, at=DAY, **located(SYDNEY))
    bench.pay(23 * HOUR, at=DAY, **located(BERLIN))
    assert "impossible-travel" not in bench.pay(HOUR, at=DAY, **located(SYDNEY)).risk_reasons
    assert "impossible-travel" not in bench.pay(23 * HOUR + 1, at=DAY, **located(BERLIN)).risk_reasons
    assert "impossible-travel" in bench.pay(23 * HOUR + 2, at=DAY, **located(SYDNEY)).risk_reasons


def test_a_payee_is_new_once_and_again_after_256_others() -> None:
    """The latest used are kept (R41)."""
    bench = Bench()
    assert "new-payee" in bench.pay().risk_reasons
    for n in range(PAYEES_MOST - 1):
        bench.pay(creditor=f"payee-{n}")
    assert "new-payee" not in bench.pay().risk_reasons
    assert "new-payee" not in bench.pay(creditor="payee-0").risk_reasons
    bench.pay(creditor="one-more")
    assert "new-payee" in bench.pay(creditor="payee-1").risk_reasons
    assert len(bench.profile.payees) == PAYEES_MOST * len(tag("shop"))


def test_a_second_device_is_new_the_first_is_not() -> None:
    """Without a known device there is nothing to compare with; 16 are kept."""
    bench = Bench()
    assert "new-device" not in bench.pay().risk_reasons
    assert "new-device" not in bench.pay(device_id="phone").risk_reasons
    assert "new-device" not in bench.pay(device_id="phone").risk_reasons
    assert "new-device" in bench.pay(device_id="laptop").risk_reasons
    for n in range(DEVICES_MOST):
        bench.pay(device_id=f"device-{n}")
    assert "new-device" in bench.pay(device_id="phone").risk_reasons


def test_an_amount_deviates_from_ten_samples_on_and_by_its_spread() -> None:
    """After ten times 16: spread one doubling, so 4 deviations are 256 and 8 are 4096 (10·x to the mean)."""
    for samples, amount, expected in (
        (10, 16 * 2**4, "amount-high"),
        (10, 16 * 2**4 - 2, None),
        (10, 16 * 2**8, "amount-extreme"),
        (10, 16 * 2**8 - 16, "amount-high"),
        (9, 10**12, None),
        (10, 1, None),
    ):
        bench = Bench(amount_spread=1.0)
        for n in range(samples):
            bench.pay(n * HOUR, amount_minor=16)
        found = [name for name in bench.pay(DAY, amount_minor=amount).risk_reasons if name.startswith("amount")]
        assert found == ([expected] if expected else []), (samples, amount)


def test_amounts_are_judged_by_their_own_currency() -> None:
    """Yen are no euros."""
    bench = Bench()
    for n in range(10):
        bench.pay(n * HOUR, amount_minor=100)
    assert "amount-extreme" not in bench.pay(DAY, amount_minor=10**9, currency="JPY").risk_reasons
    assert "amount-extreme" in bench.pay(DAY, amount_minor=10**9).risk_reasons


@settings(deadline=None)
@given(st.integers(1, 10**15 - 1))
def test_the_integer_logarithm_stays_near_the_real_one(amount: int) -> None:
    """Within two units of 256 · log2, never above, and rising."""
    from math import log2

    assert -2.5 < log_amount(amount) - 256 * log2(amount) < 0.001
    assert log_amount(amount) <= log_amount(amount + 1)


def test_the_score_chooses_the_decision() -> None:
    """Each band begins at its threshold (R41)."""
    bands = {"step_up_from": 500, "review_from": 600, "decline_from": 700}
    for weight, decision in ((499, "APPROVE"), (500, "STEP_UP"), (600, "REVIEW"), (699, "REVIEW"), (700, "DECLINE")):
        bench = Bench(**bands, new_device_weight=weight)
        bench.pay(device_id="phone")
        one = bench.pay(device_id="laptop")
        assert (one.risk_decision, one.risk_score, one.risk_reasons) == (decision, weight, ("new-device",))
        assert one.risk_version == "1"


def test_above_the_floor_limit_the_policy_decides() -> None:
    """At the limit nothing, above it open, review or closed (R42)."""
    for policy, decision in (("open", "APPROVE"), ("review", "REVIEW"), ("closed", "DECLINE")):
        bench = Bench(floor_limit_minor={"EUR": 1200}, floor_policy=policy)
        assert bench.pay(amount_minor=1200).risk_decision == RiskDecision.APPROVE
        one = bench.pay(amount_minor=1201)
        assert one.risk_decision == decision
        assert ("above-floor" in one.risk_reasons) is (policy != "open")
        assert bench.pay(amount_minor=10**9, currency="USD").risk_decision == RiskDecision.APPROVE


def test_a_stolen_card_is_declined_again_and_again() -> None:
    """Far away, new device, new payee: each is declined, and nothing of it is learnt."""
    bench = Bench()
    bench.pay(device_id="phone", **located(BERLIN))
    for n in range(1, 30):
        one = bench.pay(n * SECOND, device_id="stolen", creditor="fence", **located(SYDNEY))
        assert one.risk_decision == RiskDecision.DECLINE
    assert "velocity-1m" in one.risk_reasons
    assert tag("fence") not in bench.profile.payees
    assert bench.profile.flows[-1][1] == 1, "samples"
    assert bench.pay(MINUTE, device_id="phone", **located(BERLIN)).risk_decision == RiskDecision.APPROVE


def test_a_day_published_in_a_minute_is_still_a_day() -> None:
    """Features use the intent's own time, not the step's: an hourly payment is no burst."""
    slow, quick = Bench(velocity_1h=3), Bench(velocity_1h=3)
    for n in range(24):
        live = slow.pay(n * HOUR)
        late = quick.pay(n * HOUR, at=23 * HOUR + n)
        assert (live.risk_score, live.risk_reasons) == (late.risk_score, late.risk_reasons)
        assert "velocity-1h" not in late.risk_reasons
    assert slow.profile == quick.profile


def test_a_time_outside_the_day_before_the_step_is_clamped() -> None:
    """Neither a future nor an old `requested_at` hides a burst."""
    bench = Bench(velocity_1m=4)
    for after in (10 * DAY, 20 * DAY, 0, DAY):
        bench.pay(after, at=0)
    assert "velocity-1m" in bench.pay(30 * DAY, at=0).risk_reasons
    old = Bench(velocity_1m=2)
    for after in (-10 * DAY, -20 * DAY):
        old.pay(after, at=0)
    assert "velocity-1m" in old.pay(-30 * DAY, at=0).risk_reasons


def test_intents_out_of_order_are_counted_where_they_belong() -> None:
    """A late intent sees what stood before it in time, and is seen by those after it."""
    bench = Bench(velocity_1h=2)
    bench.pay(10 * HOUR, at=DAY)
    bench.pay(8 * HOUR, at=DAY)
    assert "velocity-1h" not in bench.pay(10 * HOUR + 1, at=DAY).risk_reasons
    assert "velocity-1h" in bench.pay(10 * HOUR + 2, at=DAY).risk_reasons
    assert len(bench.profile.flows[-1][4]) == 2, "two buckets"


@settings(deadline=None)
@given(st.permutations(range(8)))
def test_the_order_of_late_intents_changes_no_count_of_the_day(order: list[int]) -> None:
    """What a day holds is the same in whichever order it came."""
    bench = Bench()
    for n in order:
        bench.pay(n * HOUR, at=DAY, amount_minor=n + 1)
    attempts, sums = bench.profile.flows[-1][5:]
    assert (list(attempts), list(sums)) == ([1] * 8, list(range(1, 9)))


@pytest.mark.parametrize(
    ("fields", "marks"),
    [
        ({}, {"repeats": True}),
        ({}, {"conflicts": True}),
        ({}, {"refusal": "AM01"}),
        ({"kind": Kind.APPROVE}, {}),
        ({"kind": Kind.REJECT}, {}),
    ],
)
def test_what_is_marked_or_no_transfer_changes_no_feature(fields: dict[str, Any], marks: dict[str, Any]) -> None:
    """It is handed on as it came, without a verdict (R41)."""
    tables = memory(ScreeningTables, TABLES)
    turn = a_turn(tables)
    screen([admitted(an_intent())], turn)
    before = dict(tables.profiles.rows)
    marked = admitted(an_intent("other", creditor="new", **fields), **marks)
    assert screen([marked], turn).handed_on == [Screened(marked)]
    assert tables.profiles.rows == before


PLACES = st.sampled_from((None, BERLIN, PARIS, SYDNEY))


@st.composite
def days(draw: st.DrawFn) -> list[Admitted]:
    found = []
    for n in range(draw(st.integers(1, 30))):
        place = draw(PLACES)
        intent = an_intent(
            f"p{n}",
            debtor=draw(st.sampled_from(("alice", "bob"))),
            creditor=draw(st.sampled_from(("shop", "kiosk", "bank"))),
            amount_minor=draw(st.integers(1, 10**6)),
            currency=draw(st.sampled_from(("EUR", "JPY"))),
            requested_at=AT - draw(st.integers(-HOUR, 2 * DAY)),
            device_id=draw(st.sampled_from((None, "phone", "laptop"))),
            **(located(place) if place else {}),
        )
        found.append(admitted(intent, repeats=draw(st.integers(0, 4)) == 0))
    return found


@settings(deadline=None)
@given(batch=days(), cut=st.integers(0, 30))
def test_verdicts_do_not_depend_on_how_batches_are_cut_nor_how_rows_are_kept(batch: list[Admitted], cut: int) -> None:
    """One batch in memory says what two with rows through JSON say, and the rows are the same."""
    rules = Rules(screening=ScreeningRules(velocity_1m=2, velocity_24h=4, amount_samples=2, amount_high_z=0.5))
    whole, parts = memory(ScreeningTables, TABLES), ScreeningTables(JsonTable())  # type: ignore[arg-type]
    at_once = screen(batch, a_turn(whole, rules=rules)).handed_on
    turn = a_turn(parts, rules=rules)
    assert screen(batch[:cut], turn).handed_on + screen(batch[cut:], turn).handed_on == at_once
    assert parts.profiles.rows == {  # type: ignore[attr-defined]
        name: orjson.dumps(tuple(row)) for name, row in whole.profiles.rows.items()
    }
    assert all(0 <= one.risk_score <= 1000 for one in at_once if one.risk_score is not None)


def test_a_busy_day_is_counted_to_the_last_payment() -> None:
    """Joining buckets loses no attempt and no cent, and keeps the minute apart from the hour and the day."""
    bench = Bench()
    start = -AT % DAY
    for n in range(2000):
        bench.pay(start + n * 40 * SECOND, amount_minor=n + 1)
    _, samples, _, _, numbers, attempts, sums = bench.profile.flows[-1]
    assert (sum(attempts), sum(sums)) == (2000, 2000 * 2001 // 2)
    assert list(numbers) == sorted(set(numbers))
    assert len(numbers) <= BUCKETS_MOST
    last = (AT + start + 1999 * 40 * SECOND) // BUCKET
    in_a_minute = sum(some for number, some in zip(numbers, attempts, strict=True) if number > last - SPANS[0])
    in_an_hour = sum(some for number, some in zip(numbers, attempts, strict=True) if number > last - SPANS[1])
    assert (in_a_minute, samples < 1024) == (2, True)
    assert 82 <= in_an_hour <= 90


def test_a_profile_stays_small() -> None:
    """An ordinary row is under 600 bytes; the busiest under 16 KiB, whatever is paid (bounded state)."""
    ordinary = Bench()
    for n in range(60):
        ordinary.pay(n * 8 * HOUR, creditor=f"shop-{n % 20}", device_id="phone", amount_minor=999, **located(BERLIN))
    assert len(orjson.dumps(tuple(ordinary.profile))) < 600
    busy = Bench()
    for n in range(5000):
        busy.pay(
            n * 17 * SECOND,
            creditor=f"shop-{n}",
            device_id=f"device-{n}",
            currency=("EUR", "USD", "JPY", "GBP", "CHF", "KWD", "SEK", "NOK", "DKK", "PLN")[n % 10],
            amount_minor=10**12 + n,
        )
    assert len(busy.profile.flows) == CURRENCIES_MOST
    assert len(orjson.dumps(tuple(busy.profile))) < 16_384


def test_old_amounts_fade() -> None:
    """Samples stay below their bound, and a habit of long ago makes no amount of today strange."""
    bench = Bench()
    for n in range(3000):
        bench.pay(n * MINUTE, amount_minor=100 + n % 7)
    assert bench.profile.flows[-1][1] < 1024
    assert "amount-extreme" in bench.pay(3000 * MINUTE, amount_minor=100_000).risk_reasons
    for n in range(3001, 5000):
        bench.pay(n * MINUTE, amount_minor=100_000)
    assert not {"amount-high", "amount-extreme"} & set(bench.pay(5000 * MINUTE, amount_minor=400_000).risk_reasons)
