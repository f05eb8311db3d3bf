"""The console's application: routes, headers, who may ask, what JSON it gives. No Kafka: lists, and a board told by hand."""

import asyncio
import hashlib
import re
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import orjson
import pytest
from aiohttp import ClientSession, ClientTimeout, web
from worlds import a_world

from headrace.cli import common
from headrace.console.app import FILES, HEADERS, is_ours, make_app
from headrace.console.board import LAG, LETTERS, PULSE, RATES, Board, Problem
from headrace.console.views import Views, amount, told_letters
from headrace.dlq import Wish, look
from replay.reader import Unreachable

STATIC = Path(__file__).parents[2] / "headrace" / "console" / "static"
UPLOT = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uPlot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
"""SHA-256 of the files of uPlot 1.6.32 as its npm package has them."""
A_GROUP = {
    "group": "headrace.core", "status": "stopped", "cause": "no worker", "records": 3, "seconds": 1.5, "uncommitted_tail": 0,
    "money": {"EUR": 1250}, "exact": True, "drain_seconds": None, "money_shown": ["12.50 EUR"],
}  # fmt: skip
A_LAG = {"at": 1.0, "groups": [A_GROUP], "partitions": [{**A_GROUP, "topic": "payments.intents", "partition": 0}]}


class Answers:
    """What the console said: status, headers, and the body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return orjson.loads(self.body)


def views_of(world):
    world.starts = lambda topics: dict.fromkeys(world.ends(topics), 0)

    @contextmanager
    def source():
        yield world

    return Views(source)


def a_board():
    return Board({"bootstrap": "127.0.0.1:9092", "prefix": "", "version": "1"})


@asynccontextmanager
async def served(board, views, host="127.0.0.1"):
    runner = web.AppRunner(make_app(board, views, host), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def ask(path, board=None, views=None, method="GET", **headers):
    """One question to a console of its own."""

    async def run():
        async with (
            served(board or a_board(), views or views_of(a_world())) as url,
            ClientSession(timeout=ClientTimeout(20)) as session,
            session.request(method, url + path, headers=headers) as response,
        ):
            return Answers(response.status, response.headers, await response.read())

    return asyncio.run(run())


def test_every_answer_bears_the_guards():
    """The page, its files, data and errors alike: a strict policy, no sniffing, nothing kept or handed on."""
    for path in ("/", "/static/page.js", "/api/rates", "/api/payments/pay-1", "/nothing"):
        answer = ask(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, path
        assert "Server" not in answer.headers
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy


def test_the_page_needs_nothing_that_its_policy_forbids():
    """No inline script or style, no handler in an attribute, nothing from elsewhere, and each file that it names is there."""
    page = (STATIC / "page.html").read_text()
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*\ssrc=)|https?:", page)
    named = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert named
    assert {name.removeprefix("/static/") for name in named} <= set(FILES)
    for name in named:
        assert ask(name).status == 200


def test_own_script_makes_no_markup_of_text():
    """Fields are hostile: whatever could parse one as markup or code is not used at all."""
    for name in ("page.js", "parts.js"):
        script = (STATIC / name).read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "srcdoc"):
            assert word not in script, (name, word)


@pytest.mark.parametrize("name", UPLOT)
def test_the_charts_file_is_the_published_one(name):
    """Nobody edits a vendored file."""
    assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == UPLOT[name]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_only_get_is_answered(method):
    """It has nothing that could be changed."""
    answer = ask("/api/rates", method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:6060", "127.0.0.1.evil.example", "10.0.0.7:6060", "[::2]:1", ""]
)
def test_a_name_that_somebody_else_owns_is_refused(host):
    """DNS rebinding: the browser was led here under another's name, and would let that one read."""
    answer = ask("/api/rates", Host=host)
    assert answer.status == 403
    assert "no name of this console" in answer.json["error"]


@pytest.mark.parametrize(
    ("asked", "bound", "ours"),
    [
        ("localhost", "127.0.0.1", True),
        ("LOCALHOST:8080", "127.0.0.1", True),
        ("127.0.0.1:1", "127.0.0.1", True),
        ("[::1]:6060", "127.0.0.1", True),
        ("ops.example.org:6060", "ops.example.org", True),
        ("other.example.org", "ops.example.org", False),
        ("10.0.0.7:6060", "0.0.0.0", True),  # noqa: S104 - nothing is bound here
        ("[fd00::7]:6060", "::", True),
        ("evil.example", "0.0.0.0", False),  # noqa: S104
        ("10.0.0.7", "10.0.0.8", False),
    ],
)
def test_the_bound_host_and_loopback_are_ours(asked, bound, ours):
    """Bound to all addresses, any address is: a name can be led elsewhere, an address can't."""
    assert is_ours(asked, bound) is ours


def test_another_site_may_not_open_the_data():
    """Not even a stream that it could not read."""
    assert ask("/api/live", **{"Sec-Fetch-Site": "cross-site"}).status == 403
    assert ask("/", **{"Sec-Fetch-Site": "cross-site"}).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/vendor",
        "/static/",
        "/api",
        "/api/payments/",
        "/etc/passwd",
    ],
)
def test_what_is_not_there_is_told_as_json(path):
    """Files are a list, not a folder."""
    answer = ask(path)
    assert answer.status == 404
    assert "no such page" in answer.json["error"]


def test_a_payment_is_its_story_with_each_record_in_words():
    """In order, with amounts as people read them; the rest as the command line prints it."""
    found = ask("/api/payments/pay-4?debtor=alice").json
    assert found["debtors"] == {"alice": found["debtors"]["alice"]}
    words = [one["what"] for one in found["records"]]
    assert words[0] == "TRANSFER"
    assert {"REVIEW", "APPROVE", "credit", "COMPLETED", "posting"} <= set(words)
    assert {one["amount"] for one in found["records"]} == {"12.00 EUR", "-12.00 EUR"}
    assert found["records"][0]["fields"]["intent_id"] == "i-pay-4"
    assert (found["answered"], found["note"]) == (True, "")


def test_a_payment_without_an_answer_says_what_must_happen():
    """As the command line does."""
    world = a_world()
    world.ask("slow")
    found = ask("/api/payments/slow", views=views_of(world)).json
    assert found["answered"] is False
    assert "has no answer yet" in found["note"]


def test_an_id_may_hold_any_sign():
    """A slash, a question mark, a percent sign, a tag: it is one id all the same."""
    world = a_world()
    odd = "a/b?c=%41&<img src=x>#"
    world.pay(odd)
    assert ask("/api/payments/a%2Fb%3Fc=%2541%26%3Cimg%20src=x%3E%23", views=views_of(world)).json["payment_id"] == odd


def test_an_account_is_shown_with_amounts_in_words():
    """Balances and entries; no limit is null."""
    found = ask("/api/accounts/alice?entries=2").json
    assert [one["currency"] for one in found["balances"]] == ["EUR"]
    assert found["balances"][0]["posted"].endswith(" EUR")
    assert len(found["entries"]) == 2
    assert ask("/api/accounts/bank").json["balances"][0]["available"] is None


@pytest.mark.parametrize(
    ("path", "status", "exit_code", "words"),
    [
        ("/api/payments/nobody-knows", 404, common.FAILED, "no record tells of payment nobody-knows"),
        ("/api/payments/pay-1?debtor=bob", 404, common.FAILED, "no record tells of payment pay-1 of bob"),
        ("/api/accounts/nobody", 404, common.FAILED, "nobody was never opened"),
        ("/api/accounts/alice?as_of=yesterday", 400, common.USAGE, "is no time"),
        ("/api/accounts/alice?as_of=2999-01-01T00:00:00Z", 400, common.USAGE, "is in the future"),
        ("/api/accounts/alice?entries=many", 400, common.USAGE, "it must be 0 to 1000"),
        ("/api/dead-letters/odd", 400, common.USAGE, "names no letter"),
        ("/api/dead-letters/dlq.payments.admission:1:99", 404, common.FAILED, "no letter stands at"),
        ("/api/dead-letters/dlq.nowhere:1:99", 503, common.UNREACHABLE, "is missing"),
    ],
)  # fmt: skip
def test_an_error_is_told_in_the_words_of_the_command_line(path, status, exit_code, words):
    """With the HTTP status that fits, and the exit code that the command would have."""
    answer = ask(path)
    assert (answer.status, answer.json["exit_code"]) == (status, exit_code)
    assert words in answer.json["error"]


def test_a_kafka_that_went_away_is_503_and_comes_back():
    """Old numbers are not given for new ones; the next measurement makes them good."""
    board = a_board()
    assert "under way" in ask("/api/lag", board).json["error"]
    board.tell(LAG, A_LAG)
    board.tell(RATES, {"at": 1.0, "rates": {"COMPLETED": 5.0}})
    board.fail(PULSE, Problem("no Kafka answers at 127.0.0.1:9092", common.UNREACHABLE))
    board.tell(RATES, {"at": 2.0, "rates": {}})
    for path in ("/api/lag", "/api/rates", "/api/payments/pay-1", "/api/accounts/alice"):
        answer = ask(path, board)
        assert (answer.status, answer.json) == (503, {"error": "no Kafka answers at 127.0.0.1:9092", "exit_code": 3})
    board.fine(PULSE)
    assert ask("/api/lag", board).json == A_LAG
    assert ask("/api/rates", board).json["points"] == [{"at": 1.0, "rates": {"COMPLETED": 5.0}}]


def test_a_part_that_fails_spoils_no_other():
    """A receipt that can't be read says nothing of the lag."""
    board = a_board()
    board.tell(LAG, A_LAG)
    board.fail(LETTERS, Problem("headrace.redrives can't be decoded", common.FAILED))
    assert ask("/api/lag", board).status == 200
    assert ask("/api/dead-letters", board).status == 500


def test_dead_letters_are_counted_and_the_newest_decoded():
    """As `headrace dlq list` counts them."""
    world = a_world()
    board = a_board()
    board.tell(LETTERS, told_letters(*look(world, Wish(), "")))
    found = ask("/api/dead-letters", board).json
    assert (found["letters"], found["parked"]) == (1, 1)
    assert [(row["topic"], row["code"]) for row in found["rows"]] == [("dlq.payments.admission", "truncated")]
    [newest] = found["newest"]
    one = ask(f"/api/dead-letters/{newest['letter']}").json
    assert (one["code"], one["record"], one["value"]) == ("truncated", None, b"\0poison".hex())


def test_a_fault_of_the_console_is_a_sentence_and_no_trace(caplog):
    """The log has the trace."""

    class Broken(Views):
        def payment(self, payment_id, debtor=None):
            raise ZeroDivisionError("secret")

    answer = ask("/api/payments/x", views=Broken(lambda: None))
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert "ZeroDivisionError" in caplog.text


def test_a_console_that_stops_lets_nobody_read_on():
    """A view of a long topic ends with the console."""
    views = views_of(a_world())
    views.stop.set()
    with pytest.raises(Unreachable, match="is stopping"):
        views.payment("pay-1")


def test_too_many_questions_at_once_are_refused():
    """A few wait, the rest is told to try again; afterwards there is room."""
    gate = asyncio.Event()

    async def run():
        loop = asyncio.get_running_loop()

        class Slow(Views):
            def payment(self, payment_id, debtor=None):
                asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
                return {"payment_id": payment_id}

        async with served(a_board(), Slow(lambda: None)) as url, ClientSession() as session:

            async def one():
                async with session.get(f"{url}/api/payments/x") as response:
                    return response.status

            asked = [asyncio.create_task(one()) for _ in range(20)]
            done, waiting = set(), set(asked)
            try:
                async with asyncio.timeout(20):
                    while len(done) < 4:
                        more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                        done |= more
            finally:
                gate.set()
            return sorted([task.result() for task in done] + list(await asyncio.gather(*waiting)))

    assert asyncio.run(run()) == [200] * 16 + [503] * 4


def test_a_page_gets_the_state_first_and_then_what_changes():
    """Over HTTP, as a browser sees it."""

    async def run():
        board = a_board()
        board.tell(LAG, A_LAG)
        async with (
            served(board, views_of(a_world())) as url,
            ClientSession(timeout=ClientTimeout(20)) as session,
            session.get(f"{url}/api/live") as response,
        ):
            assert response.headers["Content-Type"] == "text/event-stream"
            assert response.headers["Content-Security-Policy"]
            await response.content.readuntil(b"\n\n")
            state = await response.content.readuntil(b"\n\n")
            board.tell(RATES, {"at": 2.0, "rates": {}})
            return state, await response.content.readuntil(b"\n\n")

    state, event = asyncio.run(run())
    data = orjson.loads(state.split(b"data: ")[1])
    assert (data["lag"], data["about"]["prefix"]) == (A_LAG, "")
    assert event.split(b"\n")[1:3] == [b"event: rates", b'data: {"at":2.0,"rates":{}}']


def test_a_page_that_takes_nothing_is_cut_off_and_the_others_go_on():
    """Its connection is closed from here; it holds no more than its share."""

    async def run():
        board = a_board()
        async with served(board, views_of(a_world())) as url:
            host, port = url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
            writer.write(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            big = {"at": 1.0, "rates": {"x" * 100_000: 1.0}}
            for _ in range(400):
                board.tell(RATES, big)
                await asyncio.sleep(0)
            async with asyncio.timeout(30):
                with suppress(ConnectionError):
                    while await reader.read(1 << 16):
                        pass
            writer.close()
            async with ClientSession() as session, session.get(f"{url}/api/rates") as response:
                return response.status

    assert asyncio.run(run()) == 200


@pytest.mark.parametrize(
    ("minor", "currency", "told"),
    [
        (123_456_789, "EUR", "1,234,567.89 EUR"),
        (-5, "EUR", "-0.05 EUR"),
        (1_000, "JPY", "1,000 JPY"),
        (5, "<b>", "5 minor units of '<b>'"),
    ],
)
def test_an_amount_has_its_currencys_decimals(minor, currency, told):
    """And is told in minor units where there is no such currency."""
    assert amount(minor, currency) == told
