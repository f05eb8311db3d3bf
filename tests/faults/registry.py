"""All kinds of faults, in the order of the tier `change`."""

import kinds_broker
import kinds_client
import kinds_clock
import kinds_disk
import kinds_network
import kinds_poison
import kinds_process
import kinds_store
from kinds import Kind

KINDS: list[Kind] = [
    *kinds_process.KINDS,
    *kinds_poison.KINDS,
    *kinds_store.KINDS,
    *kinds_network.KINDS,
    *kinds_client.KINDS,
    *kinds_disk.KINDS,
    *kinds_broker.KINDS,
    *kinds_clock.KINDS,
]
