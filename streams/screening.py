"""Screening: a verdict on every unmarked TRANSFER, from the debtor's own past (R41 to R43).

Features are what the debtor's profile knew strictly before the intent, in the order of the
partition. Their time is the intent's `requested_at`, clamped to the 24 hours before the step, so a
day that is published in a minute is still a day. A profile is bounded, which costs some exactness:

- Payments are counted in buckets of 5 s. A window takes in the intent's own bucket so far and those
  before, so it reaches back at most its span and at least its span less one bucket. Who fills more
  than 64 buckets in a day has his older ones joined: to 5 min after a minute, to 1 h after an hour.
- An intent that is more than 24 h older than the newest one is counted in no window.
- Payees and devices are kept as 24-bit tags: one in about 65,000 new payees passes for a known one.

All but the distance is integer arithmetic, so no batch size and no machine changes a verdict.
"""

from base64 import urlsafe_b64encode
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from math import asin, cos, radians, sin, sqrt
from typing import Any, NamedTuple

from schemas.events import Intent, Kind, RiskDecision
from streams.rules import DAY, HOUR, MINUTE, ScreeningRules
from streams.tables import Table, TableSpec, new
from streams.turn import Admitted, Decided, Screened, Turn

SECOND = 1_000_000
BUCKET = 5 * SECOND
SPANS = (MINUTE // BUCKET, HOUR // BUCKET, DAY // BUCKET)
"""The windows of 1 min, 1 h and 24 h, in buckets."""
JOINED = (5 * MINUTE // BUCKET, HOUR // BUCKET)
"""To what older buckets are joined: those of the last hour, those before."""
BUCKETS_MOST = 64
SPENT_MOST = 10**15
"""A bucket's sum grows no further: above every limit that a rule can have, and far below JSON's 64 bits."""
VELOCITY = ("velocity-1m", "velocity-1h", "velocity-24h")
SPEND = ("spend-1m", "spend-1h", "spend-24h")
PAYEES_MOST = 256
DEVICES_MOST = 16
CURRENCIES_MOST = 8
SAMPLES_MOST = 1024
"""At so many samples of an amount their weight is halved: old habits fade."""
EARTH_RADIUS_KM = 6371.0
_TAG = 5
"""Characters of a tag in a profile: a blank and four of base64."""

Flow = Sequence[Any]
"""A debtor's payments in one currency: the currency; samples of amounts, the sum and the sum of squares
of their `log_amount`; then three sequences of one length: bucket numbers (rising), attempts in the
bucket, and what was accepted in it (minor units)."""


class Profile(NamedTuple):
    """What is known of a debtor. Kept as JSON, so all sequences may be lists or tuples."""

    flows: Sequence[Flow] = ()
    """At most 8, the latest used last."""
    payees: str = ""
    """Tags of at most 256 payees, the latest used last, each behind a blank."""
    devices: str = ""
    """The same of at most 16 devices."""
    place: Sequence[Any] | None = None
    """The latest located intent: seconds since 1970, latitude and longitude in thousandths of a degree."""


TABLES: tuple[TableSpec, ...] = (TableSpec("profiles", Profile),)
NOBODY = Profile()
_NO_HISTORY = (0, 0, 0, (), (), ())
_NEVER = 2**63
_NO_SPEND = ((0, 0, 0), _NEVER)
_KM_PER_THOUSANDTH = 0.1112
# An enum's member costs more to look up than a name.
_TRANSFER = Kind.TRANSFER
_APPROVE, _STEP_UP = RiskDecision.APPROVE, RiskDecision.STEP_UP
_REVIEW, _DECLINE = RiskDecision.REVIEW, RiskDecision.DECLINE
_WEAK = ("impossible-travel", "new-payee")


class ScreeningTables(NamedTuple):
    """Screening's tables, in the order of `TABLES`."""

    profiles: Table[Profile]
    """By debtor."""


class _Limits(NamedTuple):
    """The limits of velocity, as a batch needs them."""

    attempts: tuple[int, int, int]
    fewest: int
    """Below so many attempts in a day none of `attempts` is reached."""
    spend: dict[str, tuple[tuple[int, int, int], int]]
    """By currency: the sums, and the least of them."""


def _limits(rules: ScreeningRules) -> _Limits:
    attempts = (rules.velocity_1m, rules.velocity_1h, rules.velocity_24h)
    spend = {currency: (sums, _least(sums)) for currency, sums in rules.spend_minor.items()}
    return _Limits(attempts, _least(attempts), spend)


def _least(limits: tuple[int, int, int]) -> int:
    """The least limit that is on."""
    return min((limit for limit in limits if limit > 0), default=_NEVER)


def screen(batch: Sequence[Admitted], turn: Turn[ScreeningTables]) -> Decided:
    """Hands on a `Screened` for each of the batch, in its order; scores only unmarked TRANSFERs.

    What is not scored changes no feature (R41).
    """
    rules, at, profiles = turn.rules.screening, turn.at, turn.tables.profiles
    earliest, limits, version = at - DAY, _limits(rules), rules.version
    profiles.prefetch([admitted.intent.debtor for admitted in batch])
    handed_on: list[Any] = []
    for admitted in batch:
        intent = admitted.intent
        if admitted.repeats or admitted.conflicts or admitted.refusal is not None or intent.kind != _TRANSFER:
            handed_on.append(Screened(admitted))
            continue
        time = min(max(intent.requested_at, earliest), at)
        profile = profiles.get(intent.debtor) or NOBODY
        flow, others = _flow_of(profile.flows, intent.currency)
        fired = _bursts(time // BUCKET, flow, others, limits)
        score = rules.velocity_weight if fired else 0
        score += _signals(intent, time, (profile, flow), rules, fired)
        score, decision = _verdict(score, fired, intent, rules)
        profiles.put(intent.debtor, _after(intent, time, profile, (flow, others), decision))
        handed_on.append(new(Screened, (admitted, score, decision, tuple(fired), version)))
    return Decided(handed_on=handed_on)


def _flow_of(flows: Sequence[Flow], currency: str) -> tuple[Flow, Sequence[Flow]]:
    """The debtor's flow in `currency`, and those in other currencies."""
    for place in range(len(flows) - 1, -1, -1):
        if flows[place][0] == currency:
            return flows[place], [*flows[:place], *flows[place + 1 :]]
    return (currency, *_NO_HISTORY), flows


def _bursts(bucket: int, flow: Flow, others: Sequence[Flow], limits: _Limits) -> list[str]:
    """The rules of velocity that fire: attempts in all currencies, sums in the intent's."""
    spend_most, least = limits.spend.get(flow[0], _NO_SPEND)
    numbers, end = flow[4], bisect_right(flow[4], bucket)
    fired: list[str] = []
    for place in (2, 1, 0):
        first = bisect_right(numbers, bucket - SPANS[place], 0, end)
        attempts, spent = sum(flow[5][first:end]), sum(flow[6][first:end])
        for other in others:
            begin = bisect_right(other[4], bucket - SPANS[place])
            attempts += sum(other[5][begin : bisect_right(other[4], bucket)])
        # Shorter windows hold no more: nearly everybody is far from every limit.
        if attempts < limits.fewest and spent < least:
            break
        if spent >= spend_most[place] > 0:
            fired.append(SPEND[place])
        if attempts >= limits.attempts[place] > 0:
            fired.append(VELOCITY[place])
    fired.reverse()
    return fired


def _signals(intent: Intent, time: int, known: tuple[Profile, Flow], rules: ScreeningRules, fired: list[str]) -> int:
    """Adds the names of the other rules that fire to `fired`; their weights together."""
    profile, flow = known
    score = 0
    if intent.latitude is not None and profile.place and _impossible(intent, time, profile.place, rules):
        fired.append("impossible-travel")
        score += rules.impossible_travel_weight
    if tag(intent.creditor) not in profile.payees:
        fired.append("new-payee")
        score += rules.new_payee_weight
    # Missing is null, never 0: a first device can't be told from a known one.
    if intent.device_id and profile.devices and tag(intent.device_id) not in profile.devices:
        fired.append("new-device")
        score += rules.new_device_weight
    if flow[1] >= rules.amount_samples > 0:
        above = flow[1] * log_amount(intent.amount_minor) - flow[2]
        if above > 0 and _deviates(flow, above, rules.amount_extreme_z, rules.amount_spread):
            fired.append("amount-extreme")
            score += rules.amount_extreme_weight
        elif above > 0 and _deviates(flow, above, rules.amount_high_z, rules.amount_spread):
            fired.append("amount-high")
            score += rules.amount_high_weight
    return score


def _impossible(intent: Intent, time: int, place: Sequence[Any], rules: ScreeningRules) -> bool:
    """Whether nobody gets from `place` to the intent's place in the time between."""
    assert intent.latitude is not None
    assert intent.longitude is not None, "admission takes both or none"
    seconds, latitude, longitude = place
    here = (round(intent.latitude * 1000), round(intent.longitude * 1000))
    # No way is longer than its two legs; most intents end here.
    if (abs(here[0] - latitude) + abs(here[1] - longitude)) * _KM_PER_THOUSANDTH <= rules.travel_km:
        return False
    way = distance_km((latitude, longitude), here)
    return way > rules.travel_km and way * 3600 > rules.travel_kmh * abs(time // SECOND - seconds)


def distance_km(a: tuple[int, int], b: tuple[int, int]) -> float:
    """The great-circle distance of two places (latitude, longitude in thousandths of a degree), by haversine."""
    north, east = radians((b[0] - a[0]) / 1000), radians((b[1] - a[1]) / 1000)
    chord = sin(north / 2) ** 2 + cos(radians(a[0] / 1000)) * cos(radians(b[0] / 1000)) * sin(east / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(sqrt(min(1.0, chord)))


def _deviates(flow: Flow, above: int, z: float, spread: float) -> bool:
    """Whether an amount stands at least `z` standard deviations above the mean; z 0 is off.

    With n samples, `above` = n·x − Σx and v = n·Σx² − (Σx)²: (x − mean) ÷ deviation ≥ z is above² ≥ z²·v.
    """
    samples, total, squares = flow[1], flow[2], flow[3]
    variance = max(samples * squares - total * total, (samples * round(spread * 256)) ** 2, 1)
    return z > 0 and bool(above * above * 10_000 >= round(z * 100) ** 2 * variance)


def _verdict(score: int, fired: list[str], intent: Intent, rules: ScreeningRules) -> tuple[int, RiskDecision]:
    """Score and decision; adds `above-floor` to `fired` where the floor limit decides (R42)."""
    floor = rules.floor_limit_minor.get(intent.currency)
    if floor is not None and intent.amount_minor > floor and rules.floor_policy != "open":
        fired.append("above-floor")
        score = max(score, rules.review_from if rules.floor_policy == "review" else rules.decline_from)
    score = min(score, 1000)
    if score < rules.step_up_from:
        return score, _APPROVE
    if score < rules.review_from:
        return score, _STEP_UP
    if score < rules.decline_from or not _may_decline(fired, rules):
        return score, _REVIEW
    return score, _DECLINE


def _may_decline(fired: list[str], rules: ScreeningRules) -> bool:
    """Whether more than a review is fair: somebody else seems to pay, or the floor is closed.

    Travel or a new payee alone never declines (R41), nor does a busy account that pays more than ever:
    from a declined intent nothing is learnt, so it would be declined for good.
    """
    if "new-device" in fired or ("above-floor" in fired and rules.floor_policy == "closed"):
        return True
    return "impossible-travel" in fired and any(name not in _WEAK for name in fired)


def _after(
    intent: Intent, time: int, profile: Profile, known: tuple[Flow, Sequence[Flow]], decision: RiskDecision
) -> Profile:
    """The profile with this intent; `known` are the flow of its currency and the others.

    A declined one counts as an attempt; nothing else is learnt from it.
    """
    (currency, samples, total, squares, *counted), others = known
    accepted = decision != _DECLINE
    now_counted = _counted(counted, time // BUCKET, intent.amount_minor if accepted else 0)
    payees, devices, place = profile.payees, profile.devices, profile.place
    if accepted:
        size = log_amount(intent.amount_minor)
        samples, total, squares = samples + 1, total + size, squares + size * size
        if samples >= SAMPLES_MOST:
            samples, total, squares = samples // 2, total // 2, squares // 2
        payees = _latest(payees, tag(intent.creditor), PAYEES_MOST)
        if intent.device_id:
            devices = _latest(devices, tag(intent.device_id), DEVICES_MOST)
        if intent.latitude is not None and intent.longitude is not None:
            seconds = time // SECOND
            if not place or place[0] <= seconds:
                place = (seconds, round(intent.latitude * 1000), round(intent.longitude * 1000))
    flow = (currency, samples, total, squares, *now_counted)
    flows = (*others, flow)[-CURRENCIES_MOST:] if others else (flow,)
    return new(Profile, (flows, payees, devices, place))


def _counted(counted: Sequence[Any], bucket: int, amount_minor: int) -> Sequence[Any]:
    """Bucket numbers, attempts and sums, with one more attempt in `bucket`."""
    numbers, attempts, sums = counted
    if not numbers:
        return (bucket,), (1,), (amount_minor,)
    newest = numbers[-1]
    if newest == bucket:
        return numbers, (*attempts[:-1], attempts[-1] + 1), (*sums[:-1], min(sums[-1] + amount_minor, SPENT_MOST))
    oldest = max(bucket, newest) - SPANS[2]
    if newest < bucket and oldest < numbers[0] and len(numbers) < BUCKETS_MOST:
        return (*numbers, bucket), (*attempts, 1), (*sums, amount_minor)
    if bucket <= oldest:
        return counted
    first, at = bisect_right(numbers, oldest), bisect_left(numbers, bucket)
    if at < len(numbers) and numbers[at] == bucket:
        one, amount_minor, end = attempts[at] + 1, min(sums[at] + amount_minor, SPENT_MOST), at + 1
    else:
        one, end = 1, at
    counted = (
        (*numbers[first:at], bucket, *numbers[end:]),
        (*attempts[first:at], one, *attempts[end:]),
        (*sums[first:at], amount_minor, *sums[end:]),
    )
    return counted if len(counted[0]) <= BUCKETS_MOST else _joined(counted)


def _joined(counted: Sequence[Any]) -> Sequence[Any]:
    """The same with older buckets joined: at most 13 of 5 s, 13 of 5 min and 25 of 1 h are left."""
    numbers: list[int] = []
    attempts: list[int] = []
    sums: list[int] = []
    newest = counted[0][-1]
    for number, some, spent in zip(*counted, strict=True):
        age = newest - number
        joined = number if age <= SPANS[0] else number - number % JOINED[age > SPANS[1]]
        # A joined bucket bears the number of its beginning, which must not fall behind.
        if numbers and numbers[-1] >= joined:
            attempts[-1] += some
            sums[-1] = min(sums[-1] + spent, SPENT_MOST)
        else:
            numbers.append(joined)
            attempts.append(some)
            sums.append(spent)
    return numbers, attempts, sums


def _latest(tags: str, new: str, most: int) -> str:
    """`tags` with `new` as the latest, at most `most` of them."""
    if tags.endswith(new):
        return tags
    place = tags.find(new)
    if place >= 0:
        tags = tags[:place] + tags[place + _TAG :]
    return (tags + new)[-most * _TAG :]


@lru_cache(maxsize=65_536)
def tag(name: str) -> str:
    """A blank and 24 bits of BLAKE2b as four characters of base64."""
    return " " + urlsafe_b64encode(blake2b(name.encode(), digest_size=3).digest()).decode()


def log_amount(amount_minor: int) -> int:
    """256 times the binary logarithm of an amount of at least 1, rounded down; integers only."""
    bits = amount_minor.bit_length()
    leading = amount_minor >> (bits - 9) if bits > 9 else amount_minor << (9 - bits)
    return ((bits - 1) << 8) + _LOGARITHMS[leading - 256]


def _logarithm(leading: int) -> int:
    """256 · log2(leading ÷ 256) for 256 to 511, rounded down, bit by bit: square, and halve from 2 on."""
    value, result = leading << 22, 0
    for _ in range(8):
        value = value * value >> 30
        result <<= 1
        if value >= 2 << 30:
            value >>= 1
            result |= 1
    return result


_LOGARITHMS = tuple(_logarithm(leading) for leading in range(256, 512))
