"""What `--quiet` asks of a system at rest: nothing waits, nothing is under way."""

from replay.books import Books
from replay.fates import Fates
from replay.outcomes import Outcomes
from replay.settled import Settled
from replay.verdicts import Check, Verdict


def at_rest(outcomes: Outcomes, fates: Fates, books: Books, settled: Settled | None) -> Check:
    """Whether every intent is answered and no money is in transit; of `settled`, where settlement runs, that none waits."""
    verdict = Verdict("quiet", "intents, all answered; no money in transit")
    verdict.examined = fates.examined
    if fates.waiting:
        verdict.offends(f"{fates.waiting:,} intents of payments.intents wait: no step has read them yet")
    asked = sum(len(home.asked) for home in outcomes.homes)
    sent = sum(len(home.sent) for home in outcomes.homes)
    if sent or asked:
        verdict.offends(f"{sent:,} credits are undecided and {asked:,} repeats of them unanswered")
    for (debtor, payment_id, currency), amount in books.transit.items():
        verdict.offends(f"payment {payment_id} of {debtor}: {amount} {currency} are in transit")
    if settled is not None and (settled.unread or settled.owed):
        verdict.offends(
            f"{settled.unread:,} credits of merchants are not gathered, {settled.owed:,} members of closed batches were not "
            "told SETTLED"
        )
    return verdict.check()
