"""What a plan is: agents, what they read, what they keep. A plan is a value; drivers run it."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas import codec
from streams.rules import Rules
from streams.tables import TableSpec
from streams.turn import AliasOwner, Decided, Received, Turn
from topologies.topics import JOURNAL, SETTINGS, Topic, changelog, dead_letters

Decision = Callable[[Sequence[Any], Turn[Any]], Decided]
"""(batch, turn) -> Decided."""


@dataclass(frozen=True)
class Agent:
    """One agent: its decisions by inlet, and its tables.

    An inlet is a topic, or the name of the agent that hands its batch on; `outputs` are the topics it
    writes. `bind` makes the tables
    object of the decisions from one table per spec. `expire(turn, most)` carries out deadlines that
    have passed; `next_deadline(tables)` is the earliest one in µs, or None. `deadlines_at_end`: a deadline alone
    makes no step before the inputs have been read to their ends. `heads`: by topic, the head of its records and, by the
    rules, whether a record with that head concerns the agent; of one that does not, it gets the head alone.
    """

    name: str
    inlets: dict[Topic | str, Decision]
    outputs: tuple[Topic, ...] = ()
    tables: tuple[TableSpec, ...] = ()
    bind: Callable[..., Any] = tuple
    expire: Callable[[Turn[Any], int], Decided] | None = None
    next_deadline: Callable[[Any], int | None] | None = None
    deadlines_at_end: bool = False
    heads: Mapping[Topic, "tuple[Any, Callable[[Rules], Callable[[Any], bool]]]"] = field(default_factory=dict)

    def decoder(self, topic: Topic, rules: Rules) -> Callable[[bytes | None], Any]:
        """What makes records of a topic's values; it raises Undecodable."""
        if topic not in self.heads:
            return codec.decoder(topic.subject)
        head, wanted = self.heads[topic]
        return codec.choosing_decoder(topic.subject, head, wanted(rules))

    @property
    def reads_topics(self) -> bool:
        """Whether it reads topics, and so has dead letters."""
        return any(isinstance(inlet, Topic) for inlet in self.inlets)


@dataclass(frozen=True)
class SharedTable:
    """A table that every worker reads whole from its topic: `fold` applies one record to the rows."""

    name: str
    topic: Topic
    fold: Callable[[MutableMapping[str, AliasOwner], Received], None]


@dataclass(frozen=True)
class Plan:
    """Agents of one role, and the order in which a step feeds them the topics of a partition (R12).

    The last input is what the role is for: it is held back while too much waits, and keeps a share of each step.
    """

    role: str
    agents: tuple[Agent, ...]
    inputs: tuple[Topic, ...]
    shared: SharedTable | None = None

    @property
    def last_input(self) -> Topic:
        """What comes in last."""
        return self.inputs[-1]

    def reader_of(self, topic: Topic) -> Agent:
        """The agent that reads `topic`."""
        return next(agent for agent in self.agents if topic in agent.inlets)

    def next_of(self, agent: Agent) -> Agent | None:
        """The agent to which `agent` hands its batches on, if any."""
        return next((other for other in self.agents if agent.name in other.inlets), None)

    def tables(self) -> Iterator[TableSpec]:
        """Every table of every agent."""
        for agent in self.agents:
            yield from agent.tables

    def topics(self) -> tuple[Topic, ...]:
        """Every topic that the plan needs, each once: inputs, outputs, dead letters, changelog."""
        outputs = [topic for agent in self.agents for topic in agent.outputs]
        letters = [dead_letters(agent.name) for agent in self.agents if agent.reads_topics]
        found = [*self.inputs, *outputs, JOURNAL, SETTINGS, *letters, changelog(self.role)]
        return tuple({topic.name: topic for topic in found}.values())
