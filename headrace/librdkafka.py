"""Names of librdkafka's options, and which of them are not the user's to set.

Source: librdkafka 2.16's CONFIGURATION.md; a test holds the list to the installed client. Options that
take a function, load code into the process or are internal are left out.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

NAMES = frozenset(
    """
acks allow.auto.create.topics api.version.fallback.ms api.version.request api.version.request.timeout.ms
auto.commit.enable auto.commit.interval.ms auto.offset.reset batch.num.messages batch.size bootstrap.servers
broker.address.family broker.address.ttl broker.version.fallback builtin.features check.crcs client.dns.lookup
client.id client.rack client.software.name client.software.version compression.codec compression.level
compression.type connections.max.idle.ms consume.callback.max.messages coordinator.query.interval.ms debug
delivery.report.only.error delivery.timeout.ms enable.auto.commit enable.auto.offset.store
enable.gapless.guarantee enable.idempotence enable.metrics.push enable.partition.eof enable.random.seed
enable.sasl.oauthbearer.unsecure.jwt enable.sparse.connections enable.ssl.certificate.verification
fetch.error.backoff.ms fetch.max.bytes fetch.message.max.bytes fetch.min.bytes fetch.queue.backoff.ms
fetch.wait.max.ms group.id group.instance.id group.protocol group.protocol.type group.remote.assignor
heartbeat.interval.ms https.ca.location https.ca.pem isolation.level linger.ms log.connection.close
log.thread.name log_level max.in.flight max.in.flight.requests.per.connection max.partition.fetch.bytes
max.poll.interval.ms max.poll.records message.copy.max.bytes message.max.bytes message.send.max.retries
message.timeout.ms metadata.broker.list metadata.max.age.ms metadata.recovery.rebootstrap.trigger.ms
metadata.recovery.strategy metadata.request.timeout.ms offset.store.method offset.store.path
offset.store.sync.interval.ms partition.assignment.strategy partitioner produce.offset.report
queue.buffering.backpressure.threshold queue.buffering.max.kbytes queue.buffering.max.messages
queue.buffering.max.ms queued.max.messages.kbytes queued.min.messages queuing.strategy receive.message.max.bytes
reconnect.backoff.jitter.ms reconnect.backoff.max.ms reconnect.backoff.ms request.required.acks
request.timeout.ms retries retry.backoff.max.ms retry.backoff.ms sasl.jaas.config sasl.kerberos.keytab
sasl.kerberos.kinit.cmd sasl.kerberos.min.time.before.relogin sasl.kerberos.principal sasl.kerberos.service.name
sasl.mechanism sasl.mechanisms sasl.oauthbearer.assertion.algorithm sasl.oauthbearer.assertion.claim.aud
sasl.oauthbearer.assertion.claim.exp.seconds sasl.oauthbearer.assertion.claim.iss
sasl.oauthbearer.assertion.claim.jti.include sasl.oauthbearer.assertion.claim.nbf.seconds
sasl.oauthbearer.assertion.claim.sub sasl.oauthbearer.assertion.file
sasl.oauthbearer.assertion.jwt.template.file sasl.oauthbearer.assertion.private.key.file
sasl.oauthbearer.assertion.private.key.passphrase sasl.oauthbearer.assertion.private.key.pem
sasl.oauthbearer.client.credentials.client.id sasl.oauthbearer.client.credentials.client.secret
sasl.oauthbearer.client.id sasl.oauthbearer.client.secret sasl.oauthbearer.config sasl.oauthbearer.extensions
sasl.oauthbearer.grant.type sasl.oauthbearer.metadata.authentication.type sasl.oauthbearer.method
sasl.oauthbearer.scope sasl.oauthbearer.sub.claim.name sasl.oauthbearer.token.endpoint.url sasl.password
sasl.username security.protocol session.timeout.ms share.acknowledgement.mode socket.blocking.max.ms
socket.connection.setup.timeout.ms socket.keepalive.enable socket.max.fails socket.nagle.disable
socket.receive.buffer.bytes socket.send.buffer.bytes socket.timeout.ms ssl.ca.certificate.stores ssl.ca.location
ssl.ca.pem ssl.certificate.location ssl.certificate.pem ssl.cipher.suites ssl.crl.location ssl.curves.list
ssl.endpoint.identification.algorithm ssl.engine.id ssl.engine.location ssl.key.location ssl.key.password
ssl.key.pem ssl.keystore.location ssl.keystore.password ssl.providers ssl.sigalgs.list ssl.truststore.location
statistics.interval.ms sticky.partitioning.linger.ms test.mock.broker.rtt test.mock.num.brokers topic.blacklist
topic.metadata.propagation.max.ms topic.metadata.refresh.fast.cnt
topic.metadata.refresh.fast.interval.ms topic.metadata.refresh.interval.ms topic.metadata.refresh.sparse
transaction.timeout.ms transactional.id
""".split()  # noqa: SIM905 - one name a line would be 200 lines
)

OWNED = frozenset(
    """
acks allow.auto.create.topics auto.commit.enable auto.commit.interval.ms auto.offset.reset client.id
enable.auto.commit enable.auto.offset.store enable.gapless.guarantee enable.idempotence enable.partition.eof
group.id group.instance.id group.protocol group.protocol.type group.remote.assignor isolation.level
max.in.flight max.in.flight.requests.per.connection max.poll.interval.ms offset.store.method offset.store.path
offset.store.sync.interval.ms partition.assignment.strategy partitioner queuing.strategy
request.required.acks session.timeout.ms transaction.timeout.ms transactional.id
""".split()  # noqa: SIM905 - one name a line would be 200 lines
)
"""What exactly-once stands on: the engine sets these itself."""

SECRET = re.compile(r"password|passphrase|secret|\.pem$|jaas|oauthbearer\.(config|assertion)|private")
"""Options whose values are masked when settings are shown."""

_FOREIGN = re.compile(
    # Kubernetes injects these for a service named kafka, or kafka-something.
    r"KAFKA_(PORT|SERVICE)(_\w+)?|KAFKA_\w+_SERVICE_(HOST|PORT)(_\w+)?|KAFKA_\w+_PORT(_\d+_\w+)?"
    # Kafka's own shell tools read these.
    r"|KAFKA_(HOME|OPTS|HEAP_OPTS|JVM_PERFORMANCE_OPTS|LOG4J_OPTS|LOG4J_CMD_OPTS|GC_LOG_OPTS|JMX_OPTS|DEBUG)"
)
VARIABLES = {"KAFKA_" + name.replace(".", "_").upper(): name for name in sorted(NAMES)}
"""Option by environment variable."""


class UnknownOption(ValueError):
    """A name that librdkafka does not have, or that is not the user's to set; the message has the way out."""


def option_name(variable: str) -> str | None:
    """The option that an environment variable `KAFKA_…` sets, or None where the variable is not meant for us.

    Raises UnknownOption, naming the nearest variable.
    """
    if _FOREIGN.fullmatch(variable):
        return None
    if variable not in VARIABLES:
        raise UnknownOption(f"{variable} names no option of librdkafka; {_nearest(variable, VARIABLES)}")
    return checked(VARIABLES[variable], variable)


def checked(name: str, where: str | None = None) -> str:
    """`name` if it is an option that a user may set; `where` is what he wrote. Raises UnknownOption."""
    if name not in NAMES:
        raise UnknownOption(f"{where or name} is no option of librdkafka; {_nearest(name, NAMES)}")
    if name in OWNED:
        raise UnknownOption(
            f"{where or name} can't be set: exactly-once stands on {name}, and the engine sets it; remove it"
        )
    return name


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, sorted(known), n=1, cutoff=0.4)
    return f"did you mean {near[0]}?" if near else "its CONFIGURATION.md lists them"
