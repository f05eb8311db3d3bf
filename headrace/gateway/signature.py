"""Signatures of webhooks, by the Standard Webhooks specification 1.0: `v1` HMAC-SHA256, `v1a` ed25519 (R38)."""

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any, Protocol

SHARED, PRIVATE = "whsec_", "whsk_"
BYTES_LEAST, BYTES_MOST = 24, 64
SEED, PAIR = 32, 64
"""Bytes of an ed25519 seed, and of one with its public key behind it."""


class Key(Protocol):
    """What signs for an endpoint."""

    def sign(self, content: bytes) -> str:
        """The signature with its version, such as `v1,K5oZ...=`."""


class SharedKey:
    """A secret that both sides know."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, content: bytes) -> str:
        """HMAC-SHA256 of the content."""
        return "v1," + b64encode(hmac.digest(self._secret, content, hashlib.sha256)).decode()


class PrivateKey:
    """An ed25519 key, of which the receiver knows the public half."""

    def __init__(self, key: Any) -> None:
        self._key = key

    def sign(self, content: bytes) -> str:
        """The ed25519 signature of the content."""
        return "v1a," + b64encode(self._key.sign(content)).decode()


def key_of(text: str) -> Key:
    """The key that a secret holds: `whsec_` or `whsk_` and base64.

    Raises ValueError, which says what is wrong and never the secret itself.
    """
    if text.startswith(SHARED):
        secret = _bytes(text.removeprefix(SHARED))
        if not BYTES_LEAST <= len(secret) <= BYTES_MOST:
            raise ValueError(f"a {SHARED} secret has {BYTES_LEAST} to {BYTES_MOST} bytes, not {len(secret)}")
        return SharedKey(secret)
    if text.startswith(PRIVATE):
        return _private(_bytes(text.removeprefix(PRIVATE)))
    raise ValueError(f"a secret begins with {SHARED} (HMAC-SHA256) or {PRIVATE} (ed25519)")


def _bytes(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("what follows a secret's prefix must be base64") from None


def _private(data: bytes) -> Key:
    if len(data) not in {SEED, PAIR}:
        raise ValueError(f"a {PRIVATE} secret has {SEED} bytes, or {PAIR} with its public key, not {len(data)}")
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise ValueError(f"a {PRIVATE} secret needs the extra ed25519: pip install 'headrace[ed25519]'") from None
    key = Ed25519PrivateKey.from_private_bytes(data[:SEED])
    if len(data) == PAIR and key.public_key().public_bytes_raw() != data[SEED:]:
        raise ValueError(f"the public half of a {PRIVATE} secret does not belong to its private half")
    return PrivateKey(key)


def signatures(keys: Sequence[Key], webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each key, so that old and new ones hold during rotation."""
    content = f"{webhook_id}.{timestamp_s}.".encode() + body
    return " ".join(key.sign(content) for key in keys)
