"""The plan, its topics and its schemas tell the same story."""

import re
from pathlib import Path

from schemas.codec import decoder
from topologies import topics
from topologies.engine.admin import needed_topics
from topologies.payments import PLANS

ROOT = Path(__file__).parents[2]


def test_every_topic_of_the_contract_has_a_schema():
    """A record that travels can be read by a stranger."""
    for topic in topics.CONTRACT:
        assert callable(decoder(topic.subject)), topic.name


def test_every_input_has_one_reader():
    """No record without an agent that answers for it."""
    for plan in PLANS.values():
        for topic in plan.inputs:
            assert len([agent.name for agent in plan.agents if topic in agent.inlets]) == 1, topic.name


def test_no_topic_name_has_an_underscore():
    """Dots and underscores collide in Kafka's metric names."""
    for topic in needed_topics(PLANS.values()):
        assert re.fullmatch(r"[a-z0-9.-]+", topic.name), topic.name


def test_the_picture_in_the_documents_is_drawn_from_the_plans():
    """docs/architecture.md shows the plans as they are: `python -m topologies.picture` draws it anew."""
    from topologies.picture import picture

    assert picture(PLANS.values()) in (ROOT / "docs" / "architecture.md").read_text()
