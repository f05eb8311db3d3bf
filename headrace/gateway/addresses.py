"""Which addresses webhooks may go to: public ones (R39)."""

import ipaddress

GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""The last 32 bits are the IPv4 address that is meant (RFC 6052)."""
RELAYS = ipaddress.IPv4Network("192.88.99.0/24")
"""Once relays to 6to4; nobody's since (RFC 7526)."""


def allowed(address: str, *, allow_loopback: bool = False) -> bool:
    """Whether a webhook may go to an address; False for what is no address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id is not None:
            return False
        inner = _inner(found)
        if inner is not None:
            return _public_v4(inner)
    if allow_loopback and found.is_loopback:
        return True
    if isinstance(found, ipaddress.IPv4Address):
        return _public_v4(found)
    return found in GLOBAL_UNICAST and found.is_global and not found.is_reserved


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for; the tunnels' own ones are as good as what they lead to."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _public_v4(address: ipaddress.IPv4Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved and address not in RELAYS
