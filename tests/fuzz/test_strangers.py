"""Anything on any input topic: the worker goes on, every input has its fate, and good payments arrive."""

from endured import publisher_and_pipeline_agree, strangers_are_endured
from hostile import acts, rules, wishes
from hypothesis import HealthCheck, given, settings

FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@FEW
@given(acts, rules)
def test_whatever_strangers_send_every_input_has_a_fate(acts, rules):
    """No exception, no forgotten input, balanced books, bounded rows; good payments between them complete."""
    strangers_are_endured(acts, rules)


@FEW
@given(wishes, rules)
def test_what_the_publisher_lets_out_the_pipeline_takes(wishes, rules):
    """Whoever publishes through our door hears of a malformed record there, not from a dead-letter topic."""
    publisher_and_pipeline_agree(wishes, rules)
