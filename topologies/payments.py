"""The plan of headrace: who reads what, who hands on to whom. Start reading here."""

from streams import admission, ledger, notification, screening, settlement
from topologies import topics
from topologies.plan import Agent, Plan, SharedTable

CORE = Plan(
    role="core",
    agents=(
        Agent(
            "admission",
            {topics.ALIASES: admission.claim, topics.INTENTS: admission.admit},
            outputs=(topics.ACCOUNT_EVENTS,),
            tables=admission.TABLES,
            bind=admission.AdmissionTables,
        ),
        Agent(
            "screening",
            {"admission": screening.screen},
            tables=screening.TABLES,
            bind=screening.ScreeningTables,
        ),
        Agent(
            "ledger",
            {
                topics.COMMANDS: ledger.obey,
                topics.REVERSALS: ledger.give_back,
                topics.CREDITS: ledger.credit,
                "screening": ledger.debit,
            },
            outputs=(topics.EVENTS, topics.POSTINGS, topics.CREDITS, topics.REVERSALS, topics.ACCOUNT_EVENTS),
            tables=ledger.TABLES,
            bind=ledger.LedgerTables,
            expire=ledger.expire,
            next_deadline=ledger.next_deadline,
        ),
    ),
    # Money comes in before it goes out (R12).
    inputs=(topics.ALIASES, topics.COMMANDS, topics.REVERSALS, topics.CREDITS, topics.INTENTS),
    shared=SharedTable("aliases", topics.ALIASES, admission.fold_alias),
)

SETTLEMENT = Plan(
    role="settlement",
    agents=(
        Agent(
            "settlement",
            {topics.POSTINGS: settlement.gather},
            outputs=(topics.BATCHES, topics.EVENTS),
            tables=settlement.TABLES,
            bind=settlement.SettlementTables,
            expire=settlement.expire,
            next_deadline=settlement.next_deadline,
            deadlines_at_end=True,
            heads={topics.POSTINGS: (settlement.PostingHead, lambda _rules: settlement.has_members)},
        ),
    ),
    inputs=(topics.POSTINGS,),
)

NOTIFICATION = Plan(
    role="notification",
    agents=(
        Agent(
            "notification",
            {topics.ATTEMPTS: notification.hear, topics.EVENTS: notification.tell},
            outputs=(topics.DELIVERIES,),
            tables=notification.TABLES,
            bind=notification.NotificationTables,
            expire=notification.expire,
            next_deadline=notification.next_deadline,
            heads={topics.EVENTS: (notification.EventHead, notification.asked_for)},
        ),
    ),
    # What is answered makes room for what is new.
    inputs=(topics.ATTEMPTS, topics.EVENTS),
)

PLANS = {plan.role: plan for plan in (CORE, SETTLEMENT, NOTIFICATION)}
"""Every role that is built, by name."""

GATEWAY = Plan(role="gateway", agents=(), inputs=(topics.DELIVERIES,))
WATCHED = {**PLANS, GATEWAY.role: GATEWAY}
"""Whose lag is watched: the roles, and the gateway, which is no engine but reads in a group of its own."""
