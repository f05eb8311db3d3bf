"""One call of an endpoint: the signed body goes out, an outcome comes back, whatever the other side does."""

import asyncio
import logging
import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
from aiohttp.abc import AbstractResolver

from headrace import __version__
from headrace.gateway.connector import NotPublic, guarded_connector
from headrace.gateway.endpoints import Endpoint
from headrace.gateway.signature import signatures
from headrace.gateway.words import body_of
from schemas.internal import AttemptAction, Delivery

log = logging.getLogger(__name__)
CALL_S = 15.0
"""A whole call, from the name's resolution to the answer's head."""
BODY_S, BODY_BYTES = 1.0, 4_096
"""An answer's body is read for so long and so far, so that the connection can be used again; it says nothing to us."""
SLOW = frozenset({429, 502, 504})
RETRY_AFTER_MOST_S = 10_000_000
GONE = 410


class Outcome(NamedTuple):
    """What became of a call."""

    action: AttemptAction
    http_status: int | None = None
    reason: str | None = None
    retry_after_s: int | None = None


def outcome_of(status: int, retry_after: str | None, now: datetime | None = None) -> Outcome:
    """What an answer's head means (R39)."""
    if 200 <= status < 300:
        return Outcome(AttemptAction.DELIVERED, status)
    if status == GONE:
        return Outcome(AttemptAction.GONE, status, "gone")
    seconds = _seconds(retry_after, now or datetime.now(UTC))
    if status in SLOW or (status >= 400 and seconds is not None):
        return Outcome(AttemptAction.SLOW_DOWN, status, "slow-down", seconds)
    return Outcome(AttemptAction.FAILED, status, "redirect" if 300 <= status < 400 else "status")


def _seconds(retry_after: str | None, now: datetime) -> int | None:
    """`Retry-After` in seconds: a number or a date; None for anything else."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:10]), RETRY_AFTER_MOST_S)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(round((moment - now).total_seconds()), 0), RETRY_AFTER_MOST_S)


def reason_of(error: BaseException) -> str:
    """Why a call got no answer, in a word."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, NotPublic) or isinstance(cause.__cause__, NotPublic):
        return "address-refused"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "name-unknown"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "tls"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "no-connection"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | ConnectionError):
        return "disconnected"
    return "broken-answer"


class Caller:
    """Calls endpoints. A context of one event loop; `call` may run many times at once."""

    def __init__(
        self, *, allow_loopback: bool = False, call_s: float = CALL_S, resolver: AbstractResolver | None = None
    ) -> None:
        self._session = aiohttp.ClientSession(
            connector=guarded_connector(allow_loopback=allow_loopback, resolver=resolver),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=call_s),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding",),
            trust_env=False,
        )

    async def call(self, endpoint: Endpoint, delivery: Delivery) -> Outcome:
        """Sends one delivery. Never raises for what the other side does."""
        body = body_of(delivery)
        timestamp_s = int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": f"headrace/{__version__}",
            "webhook-id": delivery.event_id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": signatures(endpoint.keys, delivery.event_id, timestamp_s, body),
        }
        try:
            response = await self._session.post(endpoint.url, data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = reason_of(error)
            log.debug("endpoint %s, event %s: %s (%s)", endpoint.name, delivery.event_id, reason, type(error).__name__)
            return Outcome(AttemptAction.FAILED, None, reason)
        await _drain(response)
        return outcome_of(response.status, response.headers.get("Retry-After"))

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Reads a short body to its end, so that the connection is kept; any other ends with its connection."""
    left = BODY_BYTES
    try:
        async with asyncio.timeout(BODY_S):
            while left > 0 and (chunk := await response.content.read(left)):
                left -= len(chunk)
    except (aiohttp.ClientError, OSError, ValueError):
        left = 0
    if left > 0:
        response.release()
    else:
        response.close()
