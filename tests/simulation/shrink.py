"""The smallest story that still breaks a promise: records and faults are left out while it does."""

from collections.abc import Callable

from stories import Story

MOST_TRIES = 400


def shrink(story: Story, fails: Callable[[Story], bool], most: int = MOST_TRIES) -> Story:
    """Leaves out faults, then records, in ever smaller pieces. `fails` runs a story."""
    tries = 0

    def try_it(smaller: Story) -> bool:
        nonlocal tries
        tries += 1
        return tries <= most and fails(smaller)

    for _ in range(3):
        before = (len(story.faults), len(story.published))
        story = _leave_out(story, len(story.faults), lambda s, gone: s.without(set(), gone), try_it)
        story = _leave_out(story, len(story.published), lambda s, gone: s.without(gone, set()), try_it)
        if (len(story.faults), len(story.published)) == before:
            break
    return story


def _leave_out(
    story: Story,
    count: int,
    without: Callable[[Story, set[int]], Story],
    fails: Callable[[Story], bool],
) -> Story:
    piece = max(1, count // 2)
    while True:
        first = 0
        while first < count:
            gone = set(range(first, min(first + piece, count)))
            smaller = without(story, gone)
            if fails(smaller):
                story, count = smaller, count - len(gone)
            else:
                first += piece
        if piece == 1:
            return story
        piece //= 2
