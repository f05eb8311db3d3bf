"""Draws the plans as a Mermaid graph: `python -m topologies.picture` prints what docs/architecture.md shows."""

from collections.abc import Iterable

from topologies.payments import PLANS
from topologies.plan import Plan
from topologies.topics import Topic, dead_letters


def picture(plans: Iterable[Plan]) -> str:
    """Topics, agents, channels and tables of all roles as Mermaid text."""
    lines = ["```mermaid", "flowchart LR"]
    for agent in [agent for plan in plans for agent in plan.agents]:
        tables = ", ".join(table.name for table in agent.tables)
        lines.append(f'    {agent.name}["{agent.name}<br/><small>{tables}</small>"]')
        for inlet in agent.inlets:
            if isinstance(inlet, Topic):
                lines.append(f"    {_id(inlet.name)}([{inlet.name}]) --> {agent.name}")
            else:
                lines.append(f"    {inlet} -- channel --> {agent.name}")
        lines.extend(f"    {agent.name} --> {_id(topic.name)}([{topic.name}])" for topic in agent.outputs)
        if agent.reads_topics:
            letters = dead_letters(agent.name).name
            lines.append(f"    {agent.name} -.-> {_id(letters)}([{letters}])")
    return "\n".join([*lines, "```"])


def _id(topic: str) -> str:
    return topic.replace(".", "_")


if __name__ == "__main__":
    print(picture(PLANS.values()))  # noqa: T201  # a program's output
