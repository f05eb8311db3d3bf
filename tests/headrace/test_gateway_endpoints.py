"""The endpoints file: what may stand in it, and what is said of what may not."""

import tomllib

import orjson
import pytest

from headrace.gateway.endpoints import TYPES, endpoints_of, notification_of
from headrace.gateway.main import endpoints_in_force
from headrace.gateway.signature import signatures
from headrace.settings import Settings, SettingsError, load
from schemas.events import Status
from streams.notification_rules import EndpointRule, NotificationRules
from topologies.engine.identity import settings_json

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "A" * 32
GOOD = f"""
[[endpoint]]
name = "shop"
url = "https://shop.example/hooks"
types = ["payment.completed"]
accounts = ["shop"]
secrets = ["{SECRET}"]
"""


def toml(text):
    return tomllib.loads(text)


def test_a_good_file_gives_rules_and_endpoints():
    """What is left out has its default."""
    rules = notification_of(toml("waits_s = [0, 9]\nwindow = 3\n" + GOOD))
    assert rules == NotificationRules((EndpointRule("shop", ("payment.completed",), ("shop",)),), (0, 9), 3)
    found = endpoints_of(toml(GOOD))
    assert (list(found), found["shop"].url, len(found["shop"].keys)) == (["shop"], "https://shop.example/hooks", 1)
    assert notification_of({}) == NotificationRules()


WRONG = [
    ('[[endpoints]]\nname = "x"', "'endpoints', which is unknown"),
    ("endpoint = 3", "each under"),
    ("waits_s = []", "1 to 30 whole numbers"),
    ("waits_s = [1.5]", "1 to 30 whole numbers"),
    ("waits_s = [-1]", "1 to 30 whole numbers"),
    ("waits_s = [true]", "1 to 30 whole numbers"),
    ("waits_s = 5", "must be a list"),
    ("window = 0", "from 1 to 10000"),
    (GOOD.replace('"shop"\nurl', '"a shop"\nurl'), "must be 1 to 64 of"),
    (GOOD.replace('name = "shop"\n', ""), "must be 1 to 64 of"),
    (GOOD + GOOD, "'shop' is there twice"),
    (GOOD.replace("completed", "complete"), "'payment.complete', which is unknown"),
    (GOOD.replace('["payment.completed"]', "[]"), "is empty; leave it out"),
    (GOOD.replace('["payment.completed"]', '"payment.completed"'), "must be a list"),
    (GOOD.replace('["payment.completed"]', '["payment.completed", "payment.completed"]'), "is there twice"),
    (GOOD.replace('accounts = ["shop"]', 'accounts = [""]'), "ids of 1 to 255 bytes"),
    (GOOD.replace('accounts = ["shop"]', "accounts = [1]"), "must be strings"),
    (GOOD + "enabled = 1\n", "true or false"),
    (GOOD + 'secret = "x"\n', "'secret', which is unknown"),
]


@pytest.mark.parametrize(("text", "why"), WRONG)
def test_what_workers_read_is_checked(text, why):
    """The message names the endpoint, what is wrong, and the way out."""
    with pytest.raises(ValueError, match=why):
        notification_of(toml(text))


SECRETS = [
    ("secrets = []", "1 to 4 secrets"),
    ("", "1 to 4 secrets"),
    ("secrets = [" + ", ".join(['"whsec_x"'] * 5) + "]", "1 to 4 secrets"),
    ('secrets = ["whsec_c2hvcnQ="]', "24 to 64 bytes, not 5"),
    ('secrets = ["password1234"]', "begins with whsec_"),
    ("secrets = [7]", "must be a text"),
    ('secrets = [{ env = "A", file = "B" }]', "must be a text"),
    ('secrets = [{ vault = "A" }]', "'vault', which is unknown"),
    ('secrets = [{ env = "HOOK_NOT_SET" }]', "HOOK_NOT_SET, which is not set"),
    ('secrets = [{ file = "/nowhere/secret" }]', "can't be read"),
    (f'secrets = ["{SECRET}", "{SECRET}"]', "has a secret that"),
    (f'secrets = ["{SECRET}"]\n{GOOD.replace("shop", "other")}', "has a secret that 'shop' has too"),
]


@pytest.mark.parametrize(("lines", "why"), SECRETS)
def test_secrets_are_checked_and_never_shown(lines, why):
    """What is wrong with a secret is said without saying it."""
    text = GOOD.replace(f'secrets = ["{SECRET}"]', lines)
    with pytest.raises(ValueError, match=why) as refused:
        endpoints_of(toml(text))
    for secret in (SECRET[6:], "c2hvcnQ", "password1234"):
        assert secret not in str(refused.value)


def test_secrets_may_stand_in_variables_and_files(tmp_path, monkeypatch):
    """The order is that of the signatures."""
    (tmp_path / "old").write_text(OTHER + "\n")
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    lines = f'secrets = [{{ env = "HOOK_SECRET" }}, {{ file = "{tmp_path / "old"}" }}]'
    keys = endpoints_of(toml(GOOD.replace(f'secrets = ["{SECRET}"]', lines)))["shop"].keys
    plain = endpoints_of(toml(GOOD.replace(f'["{SECRET}"]', f'["{SECRET}", "{OTHER}"]')))["shop"].keys
    assert signatures(keys, "id", 1, b"{}") == signatures(plain, "id", 1, b"{}")


def test_every_status_is_a_type_that_can_be_asked_for():
    """A new status comes with its type."""
    assert len(TYPES) == len(Status) - 1


def test_settings_carry_the_rules_and_no_secret(tmp_path, monkeypatch):
    """headrace.settings keeps names and filters in clear: no URL, no secret."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "endpoints.toml").write_text(GOOD)
    monkeypatch.setenv("HEADRACE_ENDPOINTS", "endpoints.toml")
    told = load()
    assert told.rules().notification.endpoints == (EndpointRule("shop", ("payment.completed",), ("shop",)),)
    stored = settings_json(told.rules())
    assert b"shop.example" not in stored
    assert b"whsec" not in stored
    assert orjson.loads(stored)["notification"]["endpoints"][0]["name"] == "shop"
    assert list(endpoints_in_force(told)) == ["shop"]


@pytest.mark.parametrize(
    ("text", "why"), [(None, "can't be read"), ("[", "is wrong"), (GOOD.replace("https", "http"), "https://")]
)
def test_a_file_that_is_wrong_is_named_with_the_way_out(tmp_path, text, why):
    """Exit 2 at the door, before anything was started."""
    path = tmp_path / "endpoints.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=why) as refused:
        endpoints_in_force(Settings(endpoints=path))
    assert str(path) in str(refused.value)
    if why != "https://":
        with pytest.raises(SettingsError, match=why):
            Settings(endpoints=path).rules()


def test_without_a_file_there_are_no_endpoints():
    """The gateway serves streams all the same."""
    assert endpoints_in_force(Settings()) == {}
    assert Settings().rules().notification == NotificationRules()


def test_rules_that_are_too_many_for_the_journal_are_refused_at_the_door(tmp_path):
    """Better than a worker that can't tell what it decided by."""
    path = tmp_path / "endpoints.toml"
    path.write_text("".join(GOOD.replace('"shop"', f'"shop-{n}"') for n in range(90)))
    with pytest.raises(SettingsError, match="name fewer endpoints"):
        Settings(endpoints=path).rules()
