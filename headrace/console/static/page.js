"use strict";
// The page: what is known, told by /api/live; the views, one for each #/name; what is asked for by id comes from /api.

const STATUSES = ["COMPLETED", "DECLINED", "REVIEW", "SETTLED", "REVERSED", "repeat", "EXPIRED"];
const known = { about: {}, problems: {}, rates: [], waiting: [], lag: null, dead_letters: null };
const main = document.getElementById("main");
let live = []; // what the view shows of the parts that change: {parts, redraw}
let ends = []; // what to do when the view is left
let skew = 0; // this clock minus the server's, ms
let visit = 0;

const hue = (list) => (name) => `--c${((list().indexOf(name) + 8) % 8) + 1}`;
const statusHue = hue(() => STATUSES);
const groupHue = hue(() => ["", "", "", ...(known.lag?.groups ?? []).map((one) => one.group)]);
const age = (iso) => span(Math.max(Date.now() - skew - Date.parse(iso), 0) / 1000);
const link = (path, id, more) => h("a", { href: `#/${path}/${encodeURIComponent(id)}${more ?? ""}` }, id);
const paymentLink = (id, debtor) => (id ? link("payments", id, debtor ? `?debtor=${encodeURIComponent(debtor)}` : "") : "–");
const accountLink = (id) => (id ? link("accounts", id) : "–");

function drain(one) {
  if (one.drain_seconds !== null) return one.drain_seconds ? span(one.drain_seconds) : "–";
  return one.status === "unknown" || one.status === "ok" ? "not known" : "never";
}
const bare = (name) => (name.startsWith(known.about.prefix ?? "") ? name.slice((known.about.prefix ?? "").length) : name);
const role = (one) => bare(one.group).replace(/^headrace\./, "");
const money = (one) => (!one.money_shown.length ? "–" : h("span", { class: "amounts" },
  (one.exact === false ? ["at least"] : []).concat(one.money_shown).map((text) => h("span", {}, text))));

// A part of a view that is drawn again whenever one of `parts` changes; focus and scrolling stay where they were.
function part(parts, draw) {
  const node = h("div", { class: "part" });
  const focusable = () => [...node.querySelectorAll("a, button, [tabindex]")];
  const redraw = () => {
    const at = focusable().indexOf(document.activeElement);
    const left = [...node.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    node.replaceChildren(...[draw()].flat());
    node.querySelectorAll(".scroll").forEach((one, n) => { one.scrollLeft = left[n] ?? 0; });
    if (at >= 0) focusable()[at]?.focus();
  };
  live.push({ parts, redraw });
  redraw();
  return node;
}

function chart(label, parts, hues, names, points) {
  const made = new Chart(label, hues);
  const redraw = () => {
    made.node.hidden = !names().length || !points().length;
    if (!made.node.hidden) made.show(names(), points());
  };
  ends.push(() => made.end());
  live.push({ parts, redraw });
  queueMicrotask(redraw);
  return made.node;
}

const seen = () => [...new Set(known.rates.flatMap((one) => Object.keys(one.rates)))]
  .sort((a, b) => (STATUSES.indexOf(a) + 99) % 99 - (STATUSES.indexOf(b) + 99) % 99);
const rateNow = (status) => known.rates.at(-1)?.rates[status] ?? 0;
const rateMost = (status) => Math.max(0, ...known.rates.map((one) => one.rates[status] ?? 0));

function tiles() {
  const groups = known.lag?.groups ?? [], letters = known.dead_letters;
  const slowest = groups.reduce((worst, one) => (rank(one) > rank(worst) ? one : worst), groups[0]);
  const moneyed = groups.filter((one) => one.money_shown.length);
  const wait = known.lag ? null : "looking …";
  return h("div", { class: "tiles" },
    tile("Completed/s", short(rateNow("COMPLETED")), `most in 10 min: ${short(rateMost("COMPLETED"))}`),
    tile("Records waiting", wait ?? whole.format(groups.reduce((sum, one) => sum + one.records, 0)), "at most, all roles"),
    tile("The oldest waits", wait ?? (groups.some((one) => one.records) ? span(Math.max(...groups.map((one) => one.seconds))) : "–")),
    tile("Money waiting", wait ?? (moneyed.length ? moneyed.map(money) : "none"), "not decided yet", true),
    tile("Drained in", wait ?? (slowest?.records ? drain(slowest) : "–"), slowest?.records ? `${role(slowest)} is ${slowest.status}` : "nothing waits"),
    tile("Dead letters parked", letters ? whole.format(letters.parked) : "looking …", letters?.oldest ? `oldest: ${age(letters.oldest)}` : "none is stuck"));
}
const rank = (one) => (one.drain_seconds === null ? (one.records ? Infinity : 0) : one.drain_seconds);

function rateTable() {
  if (!seen().length) {
    return empty("No payment has been answered since this console looks on. Publish some with ", code("headrace publish FILE"),
      ", try a whole day with ", code("headrace demo"), ", and see that workers run: ", code("headrace run"), ".");
  }
  return table("Payments per second by status", [["status"], ["now", "number"], ["most in 10 min", "number"]],
    seen().map((name) => [swatch(statusHue(name), name), short(rateNow(name)), short(rateMost(name))]));
}

function waitingTable() {
  if (!known.lag) return empty("The first look is under way.");
  const most = (group) => Math.max(0, ...known.waiting.map((one) => one.records[group] ?? 0));
  return table("Records waiting by role", [["role"], ["now", "number"], ["most in 10 min", "number"]],
    known.lag.groups.map((one) => [swatch(groupHue(one.group), role(one)), whole.format(one.records), whole.format(most(one.group))]));
}

function groupTable() {
  if (!known.lag) return empty("The first look is under way.");
  const rows = known.lag.groups.map((one) => [swatch(groupHue(one.group), role(one)), chip(one.status), whole.format(one.records),
    one.records ? span(one.seconds) : "–", money(one), drain(one), one.cause]);
  return table("Lag by role", [["role"], ["status", "word"], ["records", "number"], ["oldest", "number"], ["money", "number"], ["drained in", "number"], ["why", "text"]], rows);
}

function overview() {
  return [
    h("h1", {}, "Overview"),
    part(["rates", "lag", "dead_letters"], tiles),
    h("div", { class: "pair" },
      card("Payments per second, by status",
        chart("Payments per second of the last ten minutes; the table below has the numbers", ["rates"], statusHue, seen,
          () => known.rates.map((one) => ({ at: one.at, values: one.rates }))),
        part(["rates"], rateTable)),
      card("Records waiting, by role",
        chart("Records waiting over the last ten minutes; the table below has the numbers", ["lag"], groupHue,
          () => (known.lag?.groups ?? []).map((one) => one.group), () => known.waiting.map((one) => ({ at: one.at, values: one.records }))),
        part(["lag"], waitingTable))),
    card("Lag by role", part(["lag"], groupTable)),
  ];
}

function lagView() {
  return [h("h1", {}, "Lag"), card("By role", part(["lag"], groupTable)), card("By partition", part(["lag"], () => {
    if (!known.lag) return empty("The first look is under way.");
    const columns = [["role", "word"], ["status", "word"], ["topic", "place"], ["partition", "number"], ["records", "number"], ["oldest", "number"], ["money", "number"],
      ["drained in", "number"], ["open", "number"], ["why", "text"]];
    const rows = known.lag.partitions.map((one) => [swatch(groupHue(one.group), role(one)), chip(one.status), bare(one.topic), String(one.partition), whole.format(one.records),
      one.records ? span(one.seconds) : "–", money(one), drain(one), whole.format(one.uncommitted_tail), one.cause]);
    return [table("Lag by partition", columns, rows), empty("Records are an upper bound: the ends of transactions count among them; 0 is exact. ",
      "“Open” are offsets of transactions that have not ended. Also on the command line: ", code("headrace lag --watch"))];
  }))];
}

function lettersView(id) {
  if (id) return asked(`Dead letter ${id}`, `/api/dead-letters/${encodeURIComponent(id)}`, letterDetail);
  return [h("h1", {}, "Dead letters"), part(["dead_letters"], () => {
    const found = known.dead_letters;
    if (!found) return card("By topic and code", empty("They are being counted."));
    if (!found.letters) {
      return card("By topic and code", empty("There are none. What can't be read, breaks the contract, or fails every time would stand here with its reason."));
    }
    const rows = found.rows.map((row) => [row.topic, row.code, whole.format(row.letters), whole.format(row.parked), row.oldest ? age(row.oldest) : "–", money(row)]);
    const newest = found.newest.map((one) => [link("dead-letters", one.letter), time(one.at), chip(one.redriven ? "redriven" : "parked"), one.code,
      paymentLink(one.payment_id), one.amount, one.message]);
    return [
      card("By topic and code", table("Dead letters by topic and code", [["topic"], ["code"], ["letters", "number"], ["parked", "number"], ["oldest parked", "number"], ["money parked", "number"]], rows)),
      card("The newest", table("The newest dead letters", [["letter", "place"], ["at (UTC)", "time"], ["state", "word"], ["code"], ["payment"], ["amount", "number"], ["message", "text"]], newest),
        empty("“Parked” are those that were not put back. See what putting them back would do: ", code("headrace dlq redrive"))),
    ];
  })];
}

function letterDetail(one) {
  return [
    card("What it is", list([["state", chip(one.redriven ? "redriven" : "parked")], ["at (UTC)", time(one.at)], ["code", one.code], ["message", one.message], ["first stood at", one.first],
      ["failed last at", one.latest], ["redriven before", String(one.replays)], ["payment", one.payment_id && paymentLink(one.payment_id)], ["amount", one.amount], ["key", one.key]])),
    card("What it holds", one.record ? h("pre", {}, JSON.stringify(one.record, null, 2)) : [empty(`Not decodable: ${one.undecodable}. Its bytes:`), h("pre", {}, one.value || "none")]),
    card("Headers", table("Headers", [["name"], ["value"]], one.headers.map((header) => [header.name, String(header.value ?? "–")]))),
  ];
}

function paymentView(id, query) {
  const debtor = query.get("debtor");
  const form = ask("payments", [["id", "Payment id", id, true], ["debtor", "Debtor (quicker)", debtor]]);
  const hint = "A payment's whole story across all topics: intents, postings, credits, events, dead letters.";
  if (!id) return [h("h1", {}, "Payment"), form, empty(hint)];
  return [form, asked(`Payment ${id}`, `/api/payments/${encodeURIComponent(id)}${debtor ? `?debtor=${encodeURIComponent(debtor)}` : ""}`, (found) => [
    found.note ? empty(found.note) : null,
    ...Object.entries(found.debtors).map(([name, state]) => card(["From ", accountLink(name), " ", chip(state)],
      table(`Story of the payment from ${name}`, [["at (UTC)", "time"], ["what"], ["amount", "number"], ["detail", "text"], ["where", "place"], ["", "word"]],
        found.records.filter((one) => one.debtor === name).map((one) => [time(one.at), one.repeat ? `${one.what} (said again)` : one.what, one.amount, one.detail,
          one.fields.letter ? link("dead-letters", one.fields.letter) : `${one.topic}:${one.partition}:${one.offset}`, fields(one.fields)])))),
  ])].flat();
}

function accountView(id, query) {
  const moment = query.get("as_of");
  const form = ask("accounts", [["id", "Account id", id, true], ["as_of", "As of (-2h, or ISO 8601)", moment]]);
  if (!id) return [h("h1", {}, "Account"), form, empty("Its balances per currency and its latest entries, now or as they stood at a moment.")];
  return [form, asked(`Account ${id}`, `/api/accounts/${encodeURIComponent(id)}${moment ? `?as_of=${encodeURIComponent(moment)}` : ""}`, (found) => [
    card(found.as_of ? ["Balances as of ", time(found.as_of), " UTC"] : "Balances", table("Balances",
      [["currency"], ["posted", "number"], ["held", "number"], ["available", "number"], ["entries", "number"], ["last at (UTC)", "time"], ["flags"]],
      found.balances.map((one) => [one.currency, one.posted, one.held, one.available ?? "no limit", whole.format(one.sequence), time(one.at), one.flags.join(", ")]))),
    card("Latest entries", found.entries.length ? table("Latest entries",
      [["at (UTC)", "time"], ["entry", "number"], ["code"], ["direction"], ["layer"], ["amount", "number"], ["counterparty"], ["payment"]],
      found.entries.toReversed().map((one) => [time(one.at), whole.format(one.sequence), one.code, one.direction, one.layer, one.amount, accountLink(one.counterparty), paymentLink(one.payment_id)]))
      : empty("No money has moved here yet.")),
  ])].flat();
}

function ask(path, inputs) {
  const submit = (event) => {
    event.preventDefault();
    const [id, more] = [...event.target.elements].filter((one) => one.name).map((one) => one.value.trim());
    const hash = `#/${path}/${encodeURIComponent(id)}${more ? `?${inputs[1][0]}=${encodeURIComponent(more)}` : ""}`;
    if (hash === location.hash) route(); else location.hash = hash;
  };
  return h("form", { onsubmit: submit, role: "search" }, inputs.map(([name, label, value, required]) =>
    h("label", {}, label, h("input", { name, value: value ?? "", required, autocomplete: "off", spellcheck: "false" }))), h("button", {}, "Show"));
}

function asked(title, path, draw) {
  const mine = visit;
  const node = h("div", { "aria-live": "polite" }, empty("Reading …"));
  const show = (...children) => { if (mine === visit) node.replaceChildren(...children.flat().filter(Boolean)); };
  fetch(path).then(async (answer) => [answer.ok, await answer.json()]).then(([ok, found]) => (ok ? show(draw(found)) : show(empty(found.error))))
    .catch((error) => show(empty(`The console did not answer (${error.message}). Is it running? headrace console`)));
  return [h("h1", {}, title), node];
}

const VIEWS = { "": ["Overview", overview], lag: ["Lag", lagView], "dead-letters": ["Dead letters", lettersView], payments: ["Payment", paymentView], accounts: ["Account", accountView] };

function route(event) {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  let id = rest.join("/");
  try { id = decodeURIComponent(id); } catch { /* a % that is no escape: the id as it stands */ }
  visit += 1;
  ends.forEach((end) => end());
  [live, ends] = [[], []];
  const [title, view] = VIEWS[name] ?? VIEWS[""];
  document.title = `${id || title} · headrace`;
  document.querySelectorAll("nav a").forEach((one) => {
    if (one.hash === `#/${VIEWS[name] ? name : ""}`) one.setAttribute("aria-current", "page"); else one.removeAttribute("aria-current");
  });
  main.replaceChildren(...[view(id, new URLSearchParams(query))].flat());
  if (event) main.focus();
}

function changed(...parts) { live.filter((one) => one.parts.some((name) => parts.includes(name))).forEach((one) => one.redraw()); }

function status(word) {
  const away = known.problems.kafka;
  const told = word ?? (away ? "Kafka away" : Object.keys(known.problems).length ? "trouble" : "live");
  const node = document.getElementById("link");
  if (node.textContent !== told) node.textContent = told;
  node.className = `chip ${kind(told)}`;
  document.body.classList.toggle("stale", told !== "live");
  const errors = word ? [] : [...new Set((away ? [away] : Object.values(known.problems)).map((one) => one.error))];
  if (word) errors.push("The console does not answer; this page tries again. What it shows is old.");
  document.getElementById("problems").replaceChildren(...errors.map((error) => h("p", {}, error)));
}

const recent = (points) => points.filter((one) => one.at > points.at(-1).at - SPAN_S);

let source = null;
function listen() { // not while nobody looks: a browser keeps few connections to one place
  source?.close();
  if (document.hidden) return;
  source = new EventSource("/api/live");
  const on = (name, act) => source.addEventListener(name, (event) => { act(JSON.parse(event.data)); });
  on("state", (state) => {
    Object.assign(known, state, { rates: recent(state.rates), waiting: recent(state.waiting) });
    skew = Date.now() - Date.parse(state.now);
    document.getElementById("where").textContent = [state.about.prefix && `${state.about.prefix}*`, state.about.bootstrap].filter(Boolean).join(" at ");
    status();
    changed("rates", "lag", "dead_letters");
  });
  on("rates", (rates) => { known.rates = recent([...known.rates, rates]); changed("rates"); });
  on("lag", (lag) => {
    known.lag = lag;
    known.waiting = recent([...known.waiting, { at: lag.at, records: Object.fromEntries(lag.groups.map((one) => [one.group, one.records])) }]);
    changed("lag");
  });
  on("dead_letters", (letters) => { known.dead_letters = letters; changed("dead_letters"); });
  on("problems", (problems) => { known.problems = problems; status(); });
  source.onopen = () => status();
  source.onerror = () => {
    status("reconnecting");
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  };
}
document.addEventListener("visibilitychange", listen);

addEventListener("hashchange", route);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => changed("rates", "lag"));
route();
listen();
