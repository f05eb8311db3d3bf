"""The page in a real browser: what it shows, what it refuses to be made to do, how it lives through an outage."""

import pytest
from worlds import a_world

from headrace.cli import common
from headrace.console.board import LAG, LETTERS, PULSE, RATES, Problem
from headrace.console.views import told_letters
from headrace.dlq import Wish, look

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
pytestmark = pytest.mark.browser
expect = playwright.expect

IMAGE = "<img src=x onerror=\"window.pwned='image'\">"
SCRIPT = "<script>window.pwned='script'</script>"
PHONE = {"width": 390, "height": 844}
VIEWS = ("#/", "#/lag", "#/dead-letters", "#/payments/pay-4", "#/accounts/alice")


def a_lag(**fields):
    group = {
        "group": "demo-7f3a.headrace.core", "status": "catching-up", "cause": "", "records": 4321, "seconds": 12.4,
        "uncommitted_tail": 0, "money": {"EUR": 1250}, "exact": True, "drain_seconds": 90.0, "money_shown": ["12.50 EUR"], **fields,
    }  # fmt: skip
    partition = {**group, "topic": "demo-7f3a.payments.intents", "partition": 0}
    return {"at": 1_763_719_200.0, "groups": [group], "partitions": [partition]}


def rates(at, **by_status):
    return {"at": 1_763_719_200.0 + at, "rates": by_status}


def the_letters(world):
    return told_letters(*look(world, Wish(), ""))


def tell_all(console):
    """A bit of everything."""
    console.tell(RATES, rates(0, COMPLETED=100.0))
    console.tell(RATES, rates(1, COMPLETED=1234.0, DECLINED=5.5))
    console.tell(LAG, a_lag())
    console.tell(LETTERS, the_letters(console.world))


def test_the_overview_shows_what_was_told_and_what_changes(console, open_page):
    """Rates by status, lag in three units with its drain and its status in words, dead letters; then the next second."""
    tell_all(console)
    page = open_page(console.url)
    main = page.locator("main")
    for words in ("1,234", "4,321", "12.50 EUR", "1 min 30 s", "catching-up", "DECLINED"):
        expect(main).to_contain_text(words)
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("canvas")).to_have_count(2)
    assert all(page.locator("canvas").nth(n).bounding_box()["width"] > 200 for n in range(2))
    console.tell(RATES, rates(2, COMPLETED=2345.0))
    console.tell(LAG, a_lag(records=17, status="stalled", drain_seconds=None))
    for words in ("2,345", "17", "stalled", "never"):
        expect(main).to_contain_text(words)
    assert "demo-7f3a.*" in page.locator("header").inner_text()


def test_where_there_is_nothing_the_page_says_what_to_do(console, open_page):
    """No payments, no letters; an id that nobody knows; a form that was not filled in yet."""
    world = a_world()
    world.log = {place: [] for place in world.log}
    console.world = world
    console.tell(RATES, rates(0))
    console.tell(LAG, a_lag(records=0, seconds=0.0, status="ok", drain_seconds=0.0, money={}, money_shown=[]))
    console.tell(LETTERS, the_letters(world))
    page = open_page(console.url)
    main = page.locator("main")
    expect(main).to_contain_text("headrace demo")
    expect(main).to_contain_text("nothing waits")
    page.get_by_role("link", name="Dead letters").click()
    expect(main).to_contain_text("There are none")
    page.get_by_role("link", name="Payment").click()
    expect(main).to_contain_text("whole story across all topics")
    page.get_by_label("Payment id").fill("nobody-knows")
    page.keyboard.press("Enter")
    expect(main).to_contain_text("no record tells of payment nobody-knows")


def test_a_payments_story_is_told_and_leads_on(console, open_page):
    """Asked for by the form; its fields on demand; from there to the account, and back to the payment."""
    page = open_page(f"{console.url}/#/payments")
    page.get_by_label("Payment id").fill("pay-4")
    page.get_by_label("Debtor").fill("alice")
    page.get_by_role("button", name="Show").click()
    main = page.locator("main")
    expect(main).to_contain_text("APPROVE")
    expect(page.get_by_role("heading", name="Payment pay-4")).to_be_visible()
    expect(main.locator("tbody tr")).not_to_have_count(0)
    lines = main.locator("tbody tr").count()
    page.get_by_role("button", name="all fields").first.click()
    expect(main.locator("pre")).to_contain_text('"intent_id": "i-pay-4"')
    page.get_by_role("button", name="all fields").first.click()
    expect(main.locator("tbody tr")).to_have_count(lines)
    page.get_by_role("link", name="alice").first.click()
    expect(page.get_by_role("heading", name="Account alice")).to_be_visible()
    expect(main).to_contain_text("no limit" if page.url.endswith("bank") else "EUR")
    page.get_by_role("link", name="pay-4").first.click()
    expect(page.get_by_role("heading", name="Payment pay-4")).to_be_visible()


def test_an_account_as_of_a_moment_that_is_none_is_told(console, open_page):
    """In the words of the command line."""
    page = open_page(f"{console.url}/#/accounts")
    page.get_by_label("Account id").fill("alice")
    page.get_by_label("As of").fill("yesterday")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("'yesterday' is no time; write ISO 8601")


def test_a_dead_letter_is_shown_with_its_bytes_and_headers(console, open_page):
    """From the list, by its place."""
    tell_all(console)
    page = open_page(f"{console.url}/#/dead-letters")
    page.get_by_role("link", name="dlq.payments.admission:").click()
    main = page.locator("main")
    expect(main).to_contain_text("headrace.error.code")
    expect(main).to_contain_text(b"\0poison".hex())


@pytest.mark.parametrize("odd", [IMAGE, SCRIPT, "\"'><svg onload=window.pwned=1>", "javascript:window.pwned=1"])
def test_what_strangers_wrote_is_shown_as_text(console, open_page, odd):
    """Payment id, debtor, creditor, metadata, errors, groups, causes: nothing of it runs, all of it can be read."""
    world = console.world
    world.open(odd, "NO_OVERDRAFT")
    world.pay(odd, debtor=odd, creditor="shop", metadata={odd: odd, "note": SCRIPT})
    page = open_page(console.url)
    main = page.locator("main")
    console.tell(LAG, a_lag(group=odd, cause=odd, money_shown=[odd]))
    console.tell(RATES, rates(0, **{odd: 1.0}))
    letter = the_letters(world)
    for one in letter["newest"]:
        one |= {"letter": odd, "message": odd, "code": odd, "payment_id": odd, "amount": odd}
    console.tell(LETTERS, letter)
    expect(main).to_contain_text(odd)
    page.get_by_role("link", name="Dead letters").click()
    expect(main.locator("table").last).to_contain_text(odd)
    main.get_by_role("link", name=odd).last.click()
    expect(page.get_by_role("heading", name=f"Payment {odd}")).to_be_visible()
    expect(main.locator("tbody tr")).not_to_have_count(0)
    for button in page.get_by_role("button", name="all fields").all():
        button.click()
    expect(main.locator("pre").first).to_contain_text(SCRIPT)
    page.get_by_role("link", name=odd).first.click()
    expect(page.get_by_role("heading", name=f"Account {odd}")).to_be_visible()
    expect(main).to_contain_text("EUR")
    page.goto(f"{console.url}/#/payments")
    page.get_by_label("Payment id").fill(f"{odd}?")
    page.keyboard.press("Enter")
    expect(main).to_contain_text(f"no record tells of payment {odd}?")
    console.fail(PULSE, Problem(odd, common.UNREACHABLE))
    expect(page.locator("#problems")).to_contain_text(odd)
    assert page.evaluate("window.pwned") is None
    assert main.locator("img, script, svg, iframe").count() == 0


def test_the_policy_stops_a_script_that_came_in_all_the_same(console, open_page):
    """The second wall: even markup that somebody managed to plant does not run, nor talks to another place."""
    page = open_page(console.url)
    page.evaluate(
        """() => {
            for (const code of ["window.pwned = 1"]) {
                const script = document.createElement("script");
                script.textContent = code;
                document.body.append(script);
            }
            document.body.insertAdjacentHTML("beforeend", '<img src="x" onerror="window.pwned = 2">');
        }"""
    )
    reached = page.evaluate("fetch('http://localhost:1/').then(() => 'reached', (error) => String(error))")
    page.wait_for_function("[...document.images].every((one) => one.complete)")
    assert page.evaluate("window.pwned") is None
    assert "TypeError" in reached
    assert any("script-src" in told for told in open_page.wrong)
    assert any("connect-src" in told for told in open_page.wrong)
    open_page.wrong.clear()


def test_a_kafka_that_is_away_is_told_and_its_return_too(console, open_page):
    """In words and in the corner; the numbers stay, marked as old."""
    tell_all(console)
    page = open_page(console.url)
    expect(page.locator("#link")).to_have_text("live")
    console.fail(
        PULSE, Problem("no Kafka answers at 127.0.0.1:9092. Start one with `headrace up`.", common.UNREACHABLE)
    )
    expect(page.locator("#link")).to_have_text("Kafka away")
    expect(page.get_by_role("alert")).to_contain_text("Start one with `headrace up`")
    expect(page.locator("body")).to_have_class("stale")
    console.fine(PULSE)
    expect(page.locator("#link")).to_have_text("live")
    expect(page.get_by_role("alert")).to_be_empty()


def test_a_console_that_comes_back_is_found_by_itself(console, open_page):
    """Restarted on its port, it knows nothing of the ids from before: the page takes its new state."""
    tell_all(console)
    page = open_page(console.url)
    expect(page.locator("main")).to_contain_text("4,321")
    console.stop()
    expect(page.locator("#link")).to_have_text("reconnecting")
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    console.start()
    console.tell(LAG, a_lag(records=77))
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("main")).to_contain_text("77")
    expect(page.locator("main")).not_to_contain_text("4,321")


@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_shows_each_view_without_scrolling_sideways(console, open_page, view):
    """Only tables scroll, by themselves."""
    tell_all(console)
    page = open_page(f"{console.url}/{view}", viewport=PHONE)
    expect(page.locator("table").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_in_dark(console, open_page, scheme):
    """Contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3) for every word on the overview."""
    tell_all(console)
    console.tell(LAG, a_lag(status="stopped"))
    page = open_page(console.url, color_scheme=scheme)
    expect(page.locator("main")).to_contain_text("stopped")
    poor = page.evaluate(CONTRAST)
    assert poor == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] < 128")
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("view", VIEWS)
def test_tables_have_headings_and_inputs_have_names(console, open_page, view):
    """For those who hear the page."""
    tell_all(console)
    page = open_page(f"{console.url}/{view}")
    expect(page.locator("table").first).to_be_visible()
    assert page.locator("h1").count() == 1
    assert page.evaluate(
        "[...document.querySelectorAll('table')].every((one) => one.tHead.querySelector('th[scope=col]'))"
    )
    assert page.evaluate("[...document.querySelectorAll('input')].every((one) => one.labels.length)")
    assert page.locator("nav [aria-current=page]").count() == 1
    rights = "[...document.querySelectorAll('td.number')].every((one) => getComputedStyle(one).textAlign === 'right')"
    assert page.evaluate(rights)


def test_the_keyboard_reaches_all_and_is_not_thrown_out(console, open_page):
    """The first tab is the way past the menu; what has the focus keeps it when numbers change."""
    tell_all(console)
    page = open_page(console.url)
    expect(page.locator("main")).to_contain_text("4,321")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(50):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.ariaLabel") == "Lag by role":
            break
    assert page.evaluate("document.activeElement.ariaLabel") == "Lag by role"
    console.tell(LAG, a_lag(records=99))
    expect(page.locator("main")).to_contain_text("99")
    assert page.evaluate("document.activeElement.ariaLabel") == "Lag by role"


CONTRAST = """() => {
    const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, n) => sum + part * [0.2126, 0.7152, 0.0722][n], 0);
    const back = (node) => {
        for (let one = node; one; one = one.parentElement) {
            const found = numbers(getComputedStyle(one).backgroundColor);
            if (found.length === 3 || found[3] > 0) return found;
        }
        return [255, 255, 255];
    };
    const poor = [];
    for (const node of document.querySelectorAll("body *")) {
        const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
        if (!own || ["SCRIPT", "NOSCRIPT"].includes(node.tagName)) continue;
        const [a, b] = [light(numbers(getComputedStyle(node).color)), light(back(node))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(`${node.textContent}: ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
    }
    return poor;
}"""
