"""The plan of headrace: who reads what, who hands on to whom. Start reading here."""

from streams import admission, ledger, screening
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

PLANS = {plan.role: plan for plan in (CORE,)}
"""Every role that is built, by name."""
