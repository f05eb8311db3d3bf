"""Connections to endpoints: what was checked is what is connected to (R39).

A name is resolved here, every address is checked, and each socket is made only for an address that passes, so
neither a name that resolves otherwise a moment later nor a literal address gets around it.
"""

import socket
from typing import Any

from aiohttp import TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from headrace.gateway.addresses import allowed

NAMES_S = 30
"""How long a resolved name is kept."""
IDLE_S = 4.0
"""How long an unused connection is kept: less than servers do, so that a call seldom meets one that is just closing."""


class NotPublic(OSError):
    """An address that nobody may be called at."""


class PublicResolver(AbstractResolver):
    """Resolves names; one that has any address that is not allowed is refused whole."""

    def __init__(self, inner: AbstractResolver, *, allow_loopback: bool) -> None:
        self._inner, self._allow_loopback = inner, allow_loopback

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name. Raises NotPublic, and OSError where there are none."""
        found = await self._inner.resolve(host, port, family)
        for one in found:
            if not allowed(one["host"], allow_loopback=self._allow_loopback):
                raise NotPublic(f"{host} is at {one['host']}, which is not public")
        return found

    async def close(self) -> None:
        """Ends the inner resolver."""
        await self._inner.close()


def guarded_connector(*, allow_loopback: bool, resolver: AbstractResolver | None = None) -> TCPConnector:
    """What makes the connections to endpoints: names by our resolver, and no socket to an address that is refused."""

    def socket_for(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        if not allowed(address[0], allow_loopback=allow_loopback):
            raise NotPublic(f"{address[0]} is not public")
        return socket.socket(family, kind, protocol)

    return TCPConnector(
        resolver=PublicResolver(resolver or ThreadedResolver(), allow_loopback=allow_loopback),
        socket_factory=socket_for,
        ttl_dns_cache=NAMES_S,
        keepalive_timeout=IDLE_S,
        limit=0,  # each endpoint has its own bound
    )
