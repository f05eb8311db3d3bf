"""The demo's shop believes no webhook that is not signed."""

import urllib.error
import urllib.request

import pytest

from headrace.gateway.signature import key_of, signatures
from headrace.receiver import Receiver

BODY = b'{"type":"payment.completed"}'


def call(receiver, signed, body=BODY):
    headers = {"webhook-id": "event-1", "webhook-timestamp": "1700000000", "webhook-signature": signed}
    request = urllib.request.Request(receiver.url, body, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status


def test_a_webhook_that_comes_twice_counts_once():
    """Webhooks come at least once; the id tells."""
    with Receiver() as receiver:
        signed = signatures([key_of(receiver.secret)], "event-1", 1700000000, BODY)
        assert [call(receiver, signed), call(receiver, signed)] == [204, 204]
        assert (receiver.ids, receiver.calls, receiver.unsigned) == ({"event-1"}, 2, 0)


@pytest.mark.parametrize("body", [BODY, BODY + b" "])
def test_a_webhook_with_a_wrong_signature_is_refused(body):
    """Another body, or another key: 401, and its id is not kept."""
    with Receiver() as receiver, Receiver() as other:
        key = other.secret if body == BODY else receiver.secret
        signed = signatures([key_of(key)], "event-1", 1700000000, BODY)
        with pytest.raises(urllib.error.HTTPError) as refused:
            call(receiver, signed, body)
        refused.value.close()
        assert refused.value.code == 401
        assert (receiver.ids, receiver.unsigned) == (set(), 1)
