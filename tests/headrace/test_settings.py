"""Settings: which source wins, what is refused, and what a mistake is told."""

from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException

from headrace.broker import BrokerState
from headrace.librdkafka import NAMES, OWNED, VARIABLES
from headrace.settings import NoCluster, SettingsError, load
from streams.rules import Rules

SECOND = 1_000_000


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """An empty folder, and an environment without our variables."""
    import os

    for name in list(os.environ):
        if name.startswith(("HEADRACE_", "KAFKA_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refused(**given):
    with pytest.raises(SettingsError) as caught:
        load(**given)
    return str(caught.value)


def test_each_source_wins_over_the_one_below(monkeypatch):
    """Flag, environment, .env, TOML, default: in this order."""
    assert load().partitions == 4
    Path("headrace.toml").write_text("partitions = 5\n")
    assert load().partitions == 5
    Path(".env").write_text("HEADRACE_PARTITIONS=6\n")
    assert load().partitions == 6
    monkeypatch.setenv("HEADRACE_PARTITIONS", "7")
    assert load().partitions == 7
    assert load(partitions=8).partitions == 8


def test_options_of_kafka_come_from_every_source_and_the_nearest_wins(monkeypatch):
    """TOML's dotted names, KAFKA_ variables and -X fill one table."""
    Path("headrace.toml").write_text(
        '[kafka]\nsecurity.protocol = "SSL"\nsocket.keepalive.enable = true\nretries = 3\n'
    )
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka-1:9092,kafka-2:9092")
    found = load(options=["retries=9"]).cluster()
    assert found.bootstrap == "kafka-1:9092,kafka-2:9092"
    assert found.kafka == {"security.protocol": "SASL_SSL", "socket.keepalive.enable": "true", "retries": "9"}


def test_a_secret_may_stand_in_a_file(monkeypatch):
    """_FILE takes what the file holds, without its last line end."""
    Path("password").write_text("s3cret\n")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD_FILE", "password")
    monkeypatch.setenv("KAFKA_SASL_OAUTHBEARER_ASSERTION_FILE", "assertion.jwt")
    found = load()
    assert found.kafka == {"sasl.password": "s3cret", "sasl.oauthbearer.assertion.file": "assertion.jwt"}
    assert "s3cret" not in str(found.shown())


def test_a_secret_given_twice_is_refused(monkeypatch):
    """Nobody has to guess whether the file or the variable counts."""
    Path("password").write_text("s3cret")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD_FILE", "password")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "other")
    assert "KAFKA_SASL_PASSWORD_FILE and KAFKA_SASL_PASSWORD are both set" in refused()


def test_a_secret_file_that_is_not_there_is_named(monkeypatch):
    """The variable and the path are in the message."""
    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX_FILE", "nowhere")
    assert "HEADRACE_TOPIC_PREFIX_FILE names nowhere" in refused()


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("KAFKA_SASL_USERNAM", "did you mean KAFKA_SASL_USERNAME?"),
        ("HEADRACE_TOPC_PREFIX", "did you mean HEADRACE_TOPIC_PREFIX?"),
        ("HEADRACE_RULE__REVIEW", "HEADRACE_RULE__REVIEW"),
        ("HEADRACE_KAFKA__RETRIES", "KAFKA_<NAME>"),
    ],
)
def test_an_unknown_name_is_refused_with_the_way_out(monkeypatch, variable, hint):
    """A typing mistake never means the default."""
    monkeypatch.setenv(variable, "1")
    told = refused()
    assert variable in told
    assert hint in told


def test_an_unknown_name_in_toml_is_refused_with_the_nearest_one():
    """The file is named too."""
    Path("headrace.toml").write_text("partitons = 5\n")
    told = refused()
    assert "headrace.toml: partitons" in told
    assert "did you mean partitions?" in told


def test_a_wrong_value_is_told_with_its_variable(monkeypatch):
    """The variable, the value, and what it may be."""
    monkeypatch.setenv("HEADRACE_PARTITIONS", "0")
    assert refused() == "HEADRACE_PARTITIONS is '0': input should be greater than or equal to 1"


@pytest.mark.parametrize("option", sorted(OWNED))
def test_what_exactly_once_stands_on_is_refused(option):
    """No option can quietly take the guarantee away."""
    assert "the engine sets it" in refused(options=[f"{option}=x"])


def test_variables_that_kubernetes_injects_are_ignored(monkeypatch):
    """A service named kafka does no harm."""
    injected = ("KAFKA_PORT", "KAFKA_PORT_9092_TCP_ADDR", "KAFKA_SERVICE_HOST", "KAFKA_HEADLESS_SERVICE_PORT_TLS")
    for name in (*injected, "KAFKA_HEAP_OPTS"):
        monkeypatch.setenv(name, "tcp://10.0.0.1:9092")
    assert load().kafka == {}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_option_that_we_know_is_one_of_the_client(name):
    """The list is the installed librdkafka's: it complains of the next name, not of this one."""
    with pytest.raises(KafkaException) as caught:
        Consumer({"group.id": "g", name: "\x01", "no.such.option": "1"})
    assert f'No such configuration property: "{name}"' not in str(caught.value)


def test_every_variable_stands_for_one_option():
    """Two options never share a variable."""
    assert len(VARIABLES) == len(NAMES)


def test_rules_are_set_in_seconds(monkeypatch):
    """A nested setting, and a table as JSON."""
    monkeypatch.setenv("HEADRACE_RULE__REVIEW_DEADLINE_S", "90")
    monkeypatch.setenv("HEADRACE_RULE__MAX_INTENT_AGE_S", "60")
    monkeypatch.setenv("HEADRACE_RULE__DUPLICATE_WINDOW_S", '{"APP": 30}')
    found = load().rules()
    wanted = {"review_deadline": 90 * SECOND, "max_intent_age_s": 60, "duplicate_window_s": {"APP": 30}}
    assert found == replace(Rules(), **wanted)


def test_spans_that_would_lose_answers_or_overflow_are_refused(monkeypatch):
    """A key that outlives its payment's row would ask for an answer that nobody has (R21)."""
    monkeypatch.setenv("HEADRACE_RULE__PAYMENT_KEPT_S", "60")
    told = "HEADRACE_RULE: payment_kept_s is 60, less than key_window_s, 86400; make it at least as long"
    assert refused() == told
    monkeypatch.setenv("HEADRACE_RULE__KEY_WINDOW_S", "60")
    assert load().rules().payment_kept == 60 * SECOND
    monkeypatch.setenv("HEADRACE_RULE__PAYMENT_KEPT_S", "9999999999999")
    assert "HEADRACE_RULE__PAYMENT_KEPT_S is '9999999999999': input should be less than or equal to" in refused()


def test_screening_takes_the_file_that_is_named(monkeypatch):
    """HEADRACE_SCREENING chooses the thresholds; the default is the file in the package."""
    assert load().rules() == Rules()
    Path("own.toml").write_text('version = "mine"\nvelocity_1m = 3\n')
    monkeypatch.setenv("HEADRACE_SCREENING", "own.toml")
    found = load().rules().screening
    assert (found.version, found.velocity_1m) == ("mine", 3)


@pytest.mark.parametrize("content", ["velocity_1m = ", 'velocity_1m = "many"\n', "velocty_1m = 3\n", None])
def test_a_wrong_screening_file_is_told(monkeypatch, content):
    """The file is named, and no default takes its place."""
    if content is not None:
        Path("own.toml").write_text(content)
    monkeypatch.setenv("HEADRACE_SCREENING", "own.toml")
    with pytest.raises(SettingsError, match=r"the screening file own\.toml"):
        load().rules()


def test_an_empty_variable_is_not_set(monkeypatch):
    """Compose files hand on variables that nobody set."""
    monkeypatch.setenv("HEADRACE_INSTANCE", "")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "")
    assert load().instance is None
    assert load().kafka == {}


def test_a_settings_file_that_is_named_must_be_there():
    """Only headrace.toml of the current folder may be missing."""
    assert "no.toml can't be read" in refused(config=Path("no.toml"))


def test_without_a_broker_the_way_out_is_named():
    """Nothing is started behind the user's back."""
    with pytest.raises(NoCluster, match="headrace up"):
        load().cluster()


def test_the_local_broker_is_found(monkeypatch):
    """Where nobody names a Kafka, the one that `headrace up` started is used."""
    state = BrokerState(1, 1.0, "127.0.0.1:19092", 19092, 19093, "4.3.1", Path("server.log"))
    monkeypatch.setattr("headrace.broker.running", lambda _home: state)
    assert load(topic_prefix="t.").cluster().bootstrap == "127.0.0.1:19092"
