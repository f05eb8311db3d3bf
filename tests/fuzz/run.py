"""The fuzz tests for as long as you like: `make fuzz ARGS="--minutes 5 --seed 1"`, or `python tests/fuzz/run.py`.

Rounds of examples follow each other, each from a seed of its own that follows from `--seed`, until the minutes are
over. The first failure ends the run: its smallest example is printed with what repeats it. Exit codes: 0 nothing
found, 1 a promise was broken, 2 wrong usage.
"""

import argparse
import json
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

from avro_values import SUBJECTS  # noqa: E402  # the path first
from endured import publisher_and_pipeline_agree, strangers_are_endured, value_is_judged  # noqa: E402
from hostile import acts, rules, values, wishes  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

VALUES, DAYS = 300, 60
"""Examples of one round."""
LINE_MOST = 500
"""Characters of a line that a person is shown; JSON has all."""


class Figures:
    """What was tried, and what became of it."""

    def __init__(self) -> None:
        self.examples: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.slowest_ms: dict[str, float] = {}

    def time(self, name: str, act: Callable[[], Any]) -> Any:
        """Does it, counts it, and remembers how long the slowest took."""
        begun = perf_counter()
        found = act()
        took = round((perf_counter() - begun) * 1e3, 1)
        self.examples[name] += 1
        self.slowest_ms[name] = max(took, self.slowest_ms.get(name, 0.0))
        return found


def promises(figures: Figures) -> dict[str, tuple[int, Any]]:
    """Name, examples of a round, and the property."""

    @given(st.sampled_from(SUBJECTS).flatmap(lambda subject: st.tuples(st.just(subject), values(subject))))
    def any_value(found: tuple[str, bytes | None]) -> None:
        outcome = figures.time("values", lambda: value_is_judged(*found))
        figures.outcomes[f"value {outcome}"] += 1

    @given(acts, rules)
    def any_day(acts: Any, rules: Any) -> None:
        figures.outcomes.update(figures.time("days", lambda: strangers_are_endured(acts, rules)))

    @given(wishes, rules)
    def any_wish(wishes: Any, rules: Any) -> None:
        figures.outcomes["published"] += figures.time("wishes", lambda: publisher_and_pipeline_agree(wishes, rules))

    return {"values": (VALUES, any_value), "days": (DAYS, any_day), "wishes": (DAYS, any_wish)}


def fuzz(minutes: float, first: int, figures: Figures) -> dict[str, Any] | None:
    """Rounds until the time is over; the first broken promise, or None."""
    deadline = monotonic() + minutes * 60
    number = first
    while True:
        for name, (examples, check) in promises(figures).items():
            bounded = settings(
                max_examples=examples, database=None, deadline=None, derandomize=False, print_blob=False,
                phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            try:
                seed(number)(bounded(check))()
            except Exception as error:  # noqa: BLE001  # whatever breaks a promise is what we look for
                return {"promise": name, "seed": number, "error": "".join(traceback.format_exception(error))}
        sys.stderr.write(f"seed {number}: {sum(figures.examples.values()):,} examples, nothing found\n")
        if monotonic() >= deadline:
            return None
        number += 1


def show(result: dict[str, Any]) -> None:
    """For a person, on standard output."""
    for name, count in result["examples"].items():
        print(f"{name:<10} {count:>10,} examples, the slowest took {result['slowest_ms'][name]:,} ms")
    for outcome, count in result["outcomes"].items():
        print(f"  {count:>10,}  {outcome}")
    found = result["found"]
    if found is None:
        print(f"nothing found in {result['minutes']} min from seed {result['seed']}")
    else:
        print(
            f'BROKEN: {found["promise"]}; again: make fuzz ARGS="--minutes 0 --seed {found["seed"]}"\n{found["error"]}'
        )


def main() -> int:
    """0: nothing found; 1: a promise was broken."""
    words = argparse.ArgumentParser(prog="make fuzz", description="Throws whatever strangers may send at the pipeline.")
    words.add_argument("--minutes", type=float, default=5.0, help="how long; 0 is one round  [5]")
    words.add_argument("--seed", type=int, default=1, help="of the first round  [1]")
    words.add_argument("--json", action="store_true", help="one JSON object on the last line of standard output")
    wanted = words.parse_args()
    if not 0 <= wanted.minutes <= 24 * 60:
        words.error(f"--minutes {wanted.minutes:g} must be 0 to 1440")
    figures, begun = Figures(), monotonic()
    found = fuzz(wanted.minutes, wanted.seed, figures)
    result = {
        "ok": found is None,
        "seed": wanted.seed,
        "minutes": round((monotonic() - begun) / 60, 2),
        "examples": dict(figures.examples),
        "slowest_ms": figures.slowest_ms,
        "outcomes": dict(figures.outcomes.most_common()),
        "found": found,
    }
    if wanted.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main())
