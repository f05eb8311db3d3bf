"""Signatures of webhooks, held against the reference library of Standard Webhooks."""

from base64 import b64decode, b64encode
from datetime import UTC, datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from headrace.gateway.signature import key_of, signatures


def shared(secret):
    return "whsec_" + b64encode(secret).decode()


def private(seed, *, pair=False):
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return "whsk_" + b64encode(seed + (public if pair else b"")).decode()


@given(
    st.binary(min_size=24, max_size=64), st.text("0123456789abcdef", min_size=32, max_size=32),
    st.integers(0, 4_000_000_000), st.text(max_size=200),
)  # fmt: skip
def test_a_shared_secret_signs_as_the_reference_library_does(secret, webhook_id, timestamp_s, body):
    """The same secret, id, time and body give the same signature."""
    theirs = Webhook(shared(secret)).sign(webhook_id, datetime.fromtimestamp(timestamp_s, UTC), body)
    assert signatures([key_of(shared(secret))], webhook_id, timestamp_s, body.encode()) == theirs


def test_the_specifications_own_example_comes_out():
    """A vector that neither library of this test has made."""
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    found = signatures([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.booleans())
def test_a_private_key_signs_what_its_public_half_verifies(seed, body, pair):
    """`v1a`: ed25519 over id, time and body."""
    version, _, text = signatures([key_of(private(seed, pair=pair))], "id", 7, body).partition(",")
    assert version == "v1a"
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    Ed25519PublicKey.from_public_bytes(public).verify(b64decode(text), b"id.7." + body)
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(public).verify(b64decode(text), b"id.8." + body)


def test_old_and_new_key_both_sign_during_rotation():
    """A receiver that knows either one is content."""
    old, new = shared(b"o" * 24), shared(b"n" * 24)
    found = signatures([key_of(new), key_of(old)], "id", 7, b"{}")
    assert found.split(" ") == [signatures([key_of(one)], "id", 7, b"{}") for one in (new, old)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (shared(b"s" * 23), "24 to 64 bytes, not 23"),
        (shared(b"s" * 65), "24 to 64 bytes, not 65"),
        ("whsec_", "24 to 64 bytes, not 0"),
        ("whsec_not base64!", "must be base64"),
        ("whsec_ÄÄÄÄ", "must be base64"),
        ("whsk_" + b64encode(b"s" * 31).decode(), "32 bytes, or 64"),
        ("whsk_" + b64encode(b"s" * 64).decode(), "does not belong"),
        ("secret", "begins with whsec_"),
        ("", "begins with whsec_"),
    ],
)
def test_a_secret_that_is_none_is_refused_and_never_shown(text, why):
    """The message may stand in a log."""
    with pytest.raises(ValueError, match=why) as refused:
        key_of(text)
    assert len(text) < 8 or text[6:] not in str(refused.value)
