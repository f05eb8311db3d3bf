"""Business duplicates (R20)."""

from world import a_world, pay

from streams.rules import Rules


def test_a_business_duplicate_is_declined_where_its_channel_asks_for_it():
    """R20: within the window, unless allowed, given up, in another channel or too long ago."""
    world = a_world(Rules(duplicate_window_s={"QR": 60}))
    one = {"amount_minor": 100, "channel": "QR"}
    pay(world, "a", **one)
    assert pay(world, "b", **one).story("b") == ["DECLINED DUPL"]
    assert pay(world, "c", **(one | {"channel": "WEB"})).story("c") == ["COMPLETED"]
    assert pay(world, "d", **one, metadata={"allow_duplicate": "true"}).story("d") == ["COMPLETED"]
    assert pay(world, "e", **(one | {"amount_minor": 101})).story("e") == ["COMPLETED"]
    assert pay(world, "f", **(one | {"creditor": "x"})).story("f") == ["REVERSED AC03"]
    assert pay(world, "g", **(one | {"creditor": "x"})).story("g") == ["REVERSED AC03"]
    world.at += 60 * 1_000_000
    assert pay(world, "h", **one).story("h") == ["COMPLETED"]
