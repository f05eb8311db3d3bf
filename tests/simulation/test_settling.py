"""Settlement by the real engine, on a simulated Kafka, under seeded faults."""

import time

import pytest
from planted import planted
from settling_story import SettlementSimulation, settling_story_of

from topologies.topics import BATCHES

ENOUGH_S = 5.0
FEWEST, MOST = 30, 300


def run(seed):
    simulation = SettlementSimulation(settling_story_of(seed))
    return simulation, simulation.run()


def test_every_credit_is_settled_once_under_seeded_faults():
    """Crashes, zombies, lost answers, lost stores, clocks set back: each member is in one batch and told once."""
    begun, done, batches, faults = time.monotonic(), 0, 0, 0
    for seed in range(MOST):
        simulation, result = run(seed)
        assert not result.violations, f"seed {seed}: {result.violations[0]}"
        done, faults = done + 1, faults + result.counts["faults"]
        batches += sum(
            len(list(log.committed())) for (topic, _), log in simulation.broker.logs.items() if topic == BATCHES.name
        )
        if done >= FEWEST and time.monotonic() - begun > ENOUGH_S:
            break
    print(f"{done} seeds, {faults} faults, {batches} batches")
    assert faults > done
    assert batches > 5 * done


@pytest.mark.parametrize("bug", ["offsets_not_in_the_transaction", "unknown_taken_for_committed"])
def test_a_planted_bug_is_found(bug):
    """The judge of settlement sees what the engine must not do."""
    with planted(bug):
        assert any(run(seed)[1].violations for seed in range(MOST)), "no seed found it"
