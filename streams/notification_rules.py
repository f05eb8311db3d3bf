"""The numbers of notification: one frozen object, part of `streams.rules.Rules` (R39, R40).

Plain data only, so that it comes back equal from the JSON on headrace.settings. Names and filters of endpoints
stand there; where they are, and their secrets, stay with the gateway.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class EndpointRule:
    """Which events a webhook endpoint gets (R40). Where it is and its secrets only the gateway knows."""

    name: str
    types: tuple[str, ...] = ()
    """Such as `payment.completed`; none: all."""
    accounts: tuple[str, ...] = ()
    """Payments of which one of these is debtor or creditor; none: all."""
    enabled: bool = True
    """False: it gets nothing new, and what waits for it is parked."""


@dataclass(frozen=True)
class NotificationRules:
    """R39 and R40."""

    endpoints: tuple[EndpointRule, ...] = ()
    waits_s: tuple[int, ...] = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
    """Wait before each attempt, without its jitter; behind the last one a delivery is parked."""
    window: int = 256
    """Deliveries of an endpoint that may be out on a partition; more wait in the tables, not in the gateway."""

    @cached_property
    def by_name(self) -> Mapping[str, EndpointRule]:
        """The endpoints by name."""
        return {rule.name: rule for rule in self.endpoints}

    @cached_property
    def _for_all(self) -> tuple[int, ...]:
        return tuple(n for n, rule in enumerate(self.endpoints) if not rule.accounts)

    @cached_property
    def _by_account(self) -> Mapping[str, Sequence[int]]:
        found: dict[str, list[int]] = {}
        for n, rule in enumerate(self.endpoints):
            for account in rule.accounts:
                found.setdefault(account, []).append(n)
        return found

    def asking(self, debtor: str, creditor: str) -> list[EndpointRule]:
        """The endpoints that ask for payments between two accounts, in the order of the file."""
        known = self._by_account
        if debtor in known or creditor in known:
            numbers = sorted({*self._for_all, *known.get(debtor, ()), *known.get(creditor, ())})
            return [self.endpoints[n] for n in numbers]
        return [self.endpoints[n] for n in self._for_all]


def notification_rules(data: Mapping[str, Any]) -> NotificationRules:
    """The rules in `data`, as `headrace.settings` keeps them. Raises TypeError, KeyError."""
    endpoints = tuple(
        EndpointRule(each["name"], tuple(each["types"]), tuple(each["accounts"]), each["enabled"])
        for each in data["endpoints"]
    )
    return NotificationRules(endpoints, tuple(data["waits_s"]), data["window"])
