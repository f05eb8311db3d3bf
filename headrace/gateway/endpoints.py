"""The endpoints file: who gets webhooks, where, of what, and with which secrets.

```toml
waits_s = [0, 5, 300]                    # optional: waits before each attempt, in seconds (R39)

[[endpoint]]
name = "shop"
url = "https://shop.example/hooks"
types = ["payment.completed"]            # optional: all
accounts = ["shop"]                      # optional: all
enabled = true                           # optional
secrets = [{ env = "SHOP_SECRET" }, { file = "/run/secrets/shop-old" }, "whsec_..."]
```

Workers read names and filters from it; only the gateway reads the secrets.
"""

import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headrace.gateway.addresses import allowed
from headrace.gateway.signature import Key, key_of
from schemas.events import Status
from streams.notification_rules import EndpointRule, NotificationRules

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
KEYS = ("name", "url", "types", "accounts", "enabled", "secrets")
TYPES = tuple(f"payment.{status.lower()}" for status in Status if status is not Status.UNKNOWN)
ENDPOINTS_MOST, SECRETS_MOST, ACCOUNTS_MOST, WAITS_MOST = 100, 4, 10_000, 30
URL_MOST = 2_048
WINDOW_MOST = 10_000
YEAR_S = 31_536_000


@dataclass(frozen=True)
class Endpoint:
    """Where a webhook goes, and what signs it; what goes there the rules say."""

    name: str
    url: str
    keys: tuple[Key, ...]


def notification_of(data: Mapping[str, Any]) -> NotificationRules:
    """The rules in an endpoints file, which are stored in clear: no URL, no secret. Raises ValueError."""
    for key in data:
        _known(key, ("endpoint", "waits_s", "window"), "the file")
    rules = [_rule(row) for row in _rows(data)]
    _unique([rule.name for rule in rules], "endpoint", "give each a name of its own")
    default = NotificationRules()
    waits_s = tuple(_list(data, "waits_s", default.waits_s, "the file"))
    if not 1 <= len(waits_s) <= WAITS_MOST or not all(type(wait) is int and 0 <= wait <= YEAR_S for wait in waits_s):
        raise ValueError(f"'waits_s' must be 1 to {WAITS_MOST} whole numbers of seconds, not {list(waits_s)}.")
    window = data.get("window", default.window)
    if type(window) is not int or not 1 <= window <= WINDOW_MOST:
        raise ValueError(f"'window' must be a whole number from 1 to {WINDOW_MOST}, not {window!r}.")
    return NotificationRules(tuple(rules), waits_s, window)


def endpoints_of(data: Mapping[str, Any], *, allow_loopback: bool = False) -> dict[str, Endpoint]:
    """The endpoints by name, with their secrets read. Raises ValueError, which never shows a secret."""
    notification_of(data)
    found: dict[str, Endpoint] = {}
    owners: dict[str, str] = {}
    for row in _rows(data):
        name = row["name"]
        url = checked_url(row.get("url"), name, allow_loopback=allow_loopback)
        secrets = [_secret(one, name) for one in _list(row, "secrets", (), name)]
        if not 1 <= len(secrets) <= SECRETS_MOST:
            raise ValueError(f"endpoint {name!r} must have 1 to {SECRETS_MOST} secrets, not {len(secrets)}.")
        for secret in secrets:
            if secret in owners:
                raise ValueError(f"endpoint {name!r} has a secret that {owners[secret]!r} has too; give it its own.")
            owners[secret] = name
        found[name] = Endpoint(name, url, tuple(_key(secret, name) for secret in secrets))
    return found


def read_file(path: Path) -> dict[str, Any]:
    """A TOML file. Raises OSError, ValueError."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _rows(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    rows = data.get("endpoint", [])
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError("'endpoint' must be tables, each under [[endpoint]].")
    if len(rows) > ENDPOINTS_MOST:
        raise ValueError(f"there are {len(rows)} endpoints; {ENDPOINTS_MOST} are allowed.")
    return rows


def _rule(row: Mapping[str, Any]) -> EndpointRule:
    name = row.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"'name' of an endpoint must be 1 to 64 of A-Z a-z 0-9 . _ -, not {name!r}.")
    for key in row:
        _known(key, KEYS, f"endpoint {name!r}")
    types = _strings(row, "types", name)
    for one in types:
        _known(one, TYPES, f"'types' of endpoint {name!r}")
    accounts = _strings(row, "accounts", name)
    if len(accounts) > ACCOUNTS_MOST or not all(1 <= len(one.encode()) <= 255 for one in accounts):
        raise ValueError(f"'accounts' of endpoint {name!r} must be at most {ACCOUNTS_MOST} ids of 1 to 255 bytes.")
    enabled = row.get("enabled", True)
    if not isinstance(enabled, bool):
        raise ValueError(f"'enabled' of endpoint {name!r} must be true or false, not {enabled!r}.")  # noqa: TRY004, one kind of error
    return EndpointRule(name, types, accounts, enabled)


def _known(key: str, names: Iterable[str], where: str) -> None:
    if key not in names:
        raise ValueError(f"{where} has {key!r}, which is unknown; known are {', '.join(names)}.")


def _list(row: Mapping[str, Any], key: str, default: Iterable[Any], where: str) -> list[Any]:
    found = row.get(key, list(default))
    if not isinstance(found, list):
        raise ValueError(f"{key!r} of {where} must be a list, not {type(found).__name__}.")  # noqa: TRY004, one kind of error
    return found


def _strings(row: Mapping[str, Any], key: str, name: str) -> tuple[str, ...]:
    found = _list(row, key, (), f"endpoint {name!r}")
    if key in row and not found:
        raise ValueError(f"{key!r} of endpoint {name!r} is empty; leave it out for all.")
    if not all(isinstance(one, str) for one in found):
        raise ValueError(f"{key!r} of endpoint {name!r} must be strings, not {found!r}.")
    _unique(found, f"{key!r} of endpoint {name!r}", "name each once")
    return tuple(found)


def _unique(names: list[str], what: str, way_out: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{what} {twice!r} is there twice; {way_out}.")


def checked_url(url: object, name: str, *, allow_loopback: bool) -> str:
    """`url`, if it is one that an endpoint may have. What its name resolves to is checked at each connection."""
    if not isinstance(url, str) or not 1 <= len(url) <= URL_MOST or not url.isprintable() or " " in url:
        raise ValueError(f"'url' of endpoint {name!r} must be an address such as https://shop.example/hooks.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"'url' of endpoint {name!r} is none: {error}.") from None
    host = parts.hostname or ""
    if not host or port == 0:
        raise ValueError(f"'url' of endpoint {name!r} names no host and port to call.")
    loopback = allow_loopback and _is_loopback(host)
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise ValueError(f"'url' of endpoint {name!r} must begin with https://, not {parts.scheme}://.")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise ValueError(f"'url' of endpoint {name!r} must hold no user or password; webhooks are signed instead.")
    if parts.fragment:
        raise ValueError(f"'url' of endpoint {name!r} must have no #fragment; no server would see it.")
    if _literal(host) and not allowed(host, allow_loopback=allow_loopback):
        raise ValueError(f"'url' of endpoint {name!r} has the address {host}, which is not public.")
    return url


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_literal(host) and ipaddress.ip_address(host).is_loopback)


def _secret(given: object, name: str) -> str:
    """What a secret's entry holds: the text itself, or what a variable or a file has."""
    if isinstance(given, str):
        return given
    if not isinstance(given, Mapping) or len(given) != 1 or not all(isinstance(one, str) for one in given.values()):
        raise ValueError(f"a secret of endpoint {name!r} must be a text, {{ env = NAME }} or {{ file = PATH }}.")
    ((kind, where),) = given.items()
    _known(kind, ("env", "file"), f"a secret of endpoint {name!r}")
    if kind == "env":
        if not os.environ.get(where):
            raise ValueError(f"a secret of endpoint {name!r} is to be in the variable {where}, which is not set.")
        return os.environ[where]
    try:
        return Path(where).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"a secret of endpoint {name!r} is to be in {where}, which can't be read: {error}.") from None


def _key(secret: str, name: str) -> Key:
    try:
        return key_of(secret)
    except ValueError as error:
        raise ValueError(f"a secret of endpoint {name!r} is wrong: {error}.") from None
