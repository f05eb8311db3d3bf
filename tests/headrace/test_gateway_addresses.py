"""Where a webhook may go: public addresses, and nothing that leads elsewhere."""

import asyncio
import socket

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver
from notified import Notified, an_event

from headrace.gateway.addresses import allowed
from headrace.gateway.calls import Caller
from headrace.gateway.connector import NotPublic, PublicResolver, guarded_connector
from headrace.gateway.endpoints import Endpoint, checked_url
from headrace.gateway.signature import key_of
from schemas.internal import AttemptAction

REFUSED = [
    "0.0.0.0", "0.1.2.3",  # noqa: S104 - refused, not bound
    "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.7",
    "203.0.113.9", "224.0.0.1", "233.252.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::1", "2002:c0a8:101::1",
    "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "::ffff:0:127.0.0.1",
    "2001:4860:4860::8888%eth0", "4000::1", "not-an-address", "", "127.1", "2130706433", "0x7f.1", "0177.0.0.1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "64:ff9b::808:808",
    "::ffff:8.8.8.8",
]


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address):
    """Private, loopback, link-local, reserved, multicast, documentation, and whatever stands for one of these."""
    assert not allowed(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address):
    """What the world can reach."""
    assert allowed(address)


@pytest.mark.parametrize(
    ("address", "allow"),
    [("127.0.0.1", True), ("::1", True), ("10.0.0.1", False), ("0.0.0.1", False), ("::ffff:10.0.0.1", False)],
)
def test_the_setting_for_tests_opens_this_machine_and_no_other(address, allow):
    """Loopback is not the neighbour's network."""
    assert allowed(address, allow_loopback=True) is allow


URLS = [
    ("http://shop.example/hooks", "must begin with https://"),
    ("ftp://shop.example/hooks", "must begin with https://"),
    ("file:///etc/passwd", "names no host"),
    ("https:///hooks", "names no host"),
    ("https://", "names no host"),
    ("shop.example/hooks", "names no host"),
    ("https://user:word@shop.example/", "no user or password"),
    ("https://@shop.example/", "no user or password"),
    ("https://shop.example@10.0.0.1/", "no user or password"),
    ("https://shop.example/#part", "no #fragment"),
    ("https://shop.example:0/", "names no host and port"),
    ("https://shop.example:99999/", "is none"),
    ("https://shop.example:x/", "is none"),
    ("https://[::1/", "is none"),
    ("https://127.0.0.1/", "which is not public"),
    ("https://[::1]/", "which is not public"),
    ("https://[::ffff:10.0.0.1]/", "which is not public"),
    ("https://169.254.169.254/latest/meta-data", "which is not public"),
    ("http://127.0.0.1/", "must begin with https://"),
    ("https://shop.example/ hooks", "must be an address"),
    ("https://shop.example/\r\nX: y", "must be an address"),
    ("https://shop.example/" + "x" * 2_048, "must be an address"),
    ("", "must be an address"),
    (7, "must be an address"),
]


@pytest.mark.parametrize(("url", "why"), URLS)
def test_an_url_that_could_lead_elsewhere_is_refused(url, why):
    """Before anything is resolved or connected to."""
    with pytest.raises(ValueError, match=why):
        checked_url(url, "shop", allow_loopback=False)


def test_the_setting_for_tests_allows_http_to_this_machine_only():
    """A test's receiver needs no certificate, a stranger's does."""
    for url in ("http://127.0.0.1:8080/", "http://localhost/", "http://[::1]/", "https://127.0.0.1/"):
        assert checked_url(url, "shop", allow_loopback=True) == url
    with pytest.raises(ValueError, match="https://"):
        checked_url("http://shop.example/", "shop", allow_loopback=True)


class Says(AbstractResolver):
    """A name server that says what a test wants, one answer after another, the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)

    async def resolve(self, host, port=0, family=socket.AF_INET):
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if found is None:
            raise OSError("no such name")
        return [
            {"hostname": host, "host": one, "port": port, "family": socket.AF_INET6 if ":" in one else socket.AF_INET,
             "proto": 0, "flags": socket.AI_NUMERICHOST}
            for one in found
        ]  # fmt: skip

    async def close(self):
        pass


@pytest.mark.parametrize("answer", [["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"]])
def test_a_name_with_an_address_that_is_not_public_is_refused_whole(answer):
    """One good address does not make up for a bad one."""
    resolver = PublicResolver(Says(answer), allow_loopback=False)
    with pytest.raises(NotPublic):
        asyncio.run(resolver.resolve("shop.example", 443))


def test_a_name_with_public_addresses_is_resolved():
    """All of them, as they came."""
    found = asyncio.run(PublicResolver(Says(PUBLIC), allow_loopback=False).resolve("shop.example", 443))
    assert [one["host"] for one in found] == PUBLIC


def an_endpoint(url):
    return Endpoint("shop", url, (key_of("whsec_" + "A" * 32),))


async def outcome(url, resolver=None, **more):
    delivery = Notified().tell(an_event()).due[0]
    async with Caller(resolver=resolver, **more) as caller:
        return await caller.call(an_endpoint(url), delivery)


@pytest.mark.parametrize(
    ("url", "answer", "reason"),
    [
        ("https://shop.example/", ["10.0.0.1"], "address-refused"),
        ("https://shop.example/", ["127.0.0.1"], "address-refused"),
        ("https://shop.example/", None, "name-unknown"),
        ("https://127.0.0.1/", ["8.8.8.8"], "address-refused"),
        ("https://[::1]/", ["8.8.8.8"], "address-refused"),
    ],
)
def test_no_call_goes_to_an_address_that_is_not_public(url, answer, reason):
    """Neither by a name nor by a literal address that got this far."""
    found = asyncio.run(outcome(url, Says(answer)))
    assert (found.action, found.http_status, found.reason) == (AttemptAction.FAILED, None, reason)


def test_what_is_connected_to_is_the_address_that_was_checked():
    """A name that resolves otherwise a moment later changes nothing: nobody asks again before the socket is made."""
    asked = []

    class Counts(Says):
        async def resolve(self, host, port=0, family=socket.AF_INET):
            asked.append(host)
            return await super().resolve(host, port, family)

    made = []

    async def run():
        connector = guarded_connector(allow_loopback=True, resolver=Counts(["127.0.0.1"], ["10.0.0.1"]))
        loop = asyncio.get_running_loop()

        async def connect(_sock, address):
            made.append(address[0])
            raise OSError("enough")

        loop.sock_connect = connect
        async with aiohttp.ClientSession(connector=connector) as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.post("http://shop.example/")

    asyncio.run(run())
    assert (asked, made) == (["shop.example"], ["127.0.0.1"])
