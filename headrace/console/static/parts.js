"use strict";
// What views are built of. A field is a stranger's word: it becomes a text node, never markup.

function h(tag, traits, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(traits || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const whole = new Intl.NumberFormat("en");
const short = (number) => (number < 10 && !Number.isInteger(number) ? number.toFixed(1) : whole.format(Math.round(number)));
// A moment in UTC, to the ms; it may break between its day and its time.
function time(iso) {
  if (!iso) return "–";
  const [day, clock] = iso.replace(/(\.\d{3})?\d*Z$/, "$1").split("T");
  return h("time", { datetime: iso }, h("span", {}, day), " ", h("span", {}, clock));
}

function span(seconds) {
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  return `${Math.round(seconds / 86400)} days`;
}

const KINDS = {
  good: ["ok", "live", "COMPLETED", "SETTLED", "CAPTURED", "DISPUTE_WON"],
  busy: ["catching-up", "AUTHORISED", "SENT", "WAITING", "REVIEW", "DISPUTED"],
  warn: ["falling-behind", "reconnecting", "DECLINED", "REVERSED", "REFUNDED", "EXPIRED", "VOIDED"],
  bad: ["stalled", "stopped", "blocked", "parked", "DEAD_LETTER", "DISPUTE_LOST", "Kafka away", "trouble"],
};
const kind = (word) => Object.keys(KINDS).find((name) => KINDS[name].includes(word)) || "";
const chip = (word) => h("span", { class: `chip ${kind(word)}` }, word);

function tile(name, value, note, small) {
  return h("div", { class: "tile" }, h("p", { class: "quiet" }, name),
    h("p", { class: small ? "value small" : "value" }, value), h("p", { class: "quiet" }, note || " "));
}

const card = (title, ...children) => h("section", { class: "card" }, h("h2", {}, title), ...children);
const empty = (...children) => h("p", { class: "empty" }, ...children);
const code = (text) => h("code", {}, text);

// columns: [heading, class]; rows: arrays of text or nodes, one for each column. It scrolls by itself where it is too wide.
function table(label, columns, rows) {
  const head = h("tr", {}, columns.map(([name, look]) => h("th", { scope: "col", class: look }, name)));
  const body = rows.map((row) => h("tr", {}, row.map((cell, n) => h("td", { class: columns[n][1] }, cell ?? "–"))));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    h("table", {}, h("thead", {}, head), h("tbody", {}, body)));
}

const list = (pairs) => h("dl", {}, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
  .flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

// A button in a table's row that shows a record's fields in a row of their own below.
function fields(record) {
  const toggle = ({ currentTarget: button }) => {
    const row = button.closest("tr"), open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) row.nextElementSibling.remove();
    else row.after(h("tr", {}, h("td", { colspan: row.cells.length }, h("pre", {}, JSON.stringify(record, null, 2)))));
  };
  return h("button", { type: "button", class: "plain", "aria-expanded": "false", onclick: toggle }, "all fields");
}

// A chart of lines over the last ten minutes: points of {at (s), values by name}; `hue` gives a name's colour.
class Chart {
  constructor(label, hue) {
    this.node = h("div", { class: "chart", role: "img", "aria-label": label });
    this.hue = hue;
    this.drawn = "";
    this.size = new ResizeObserver(() => this.plot?.setSize(this.box()));
    this.size.observe(this.node);
  }
  box() { return { width: Math.max(this.node.clientWidth, 120), height: 208 }; }
  show(names, points) {
    const whole = points.flatMap((one, n) => (n && one.at - points[n - 1].at > 10 ? [{ at: one.at - 1 }, one] : [one]));
    const data = [whole.map((one) => one.at), ...names.map((name) => whole.map((one) => (one.values ? one.values[name] ?? 0 : null)))];
    const look = JSON.stringify([names, colour("--ink")]);
    if (this.plot && look === this.drawn) return this.plot.setData(data);
    this.plot?.destroy();
    this.drawn = look;
    const line = { stroke: colour("--line"), width: 1 };
    const axis = { stroke: colour("--quiet"), font: "12px system-ui, sans-serif", grid: line, ticks: line };
    this.plot = new uPlot({
      ...this.box(),
      legend: { show: false }, cursor: { drag: { x: false, y: false } }, padding: [10, 22, 0, 0],
      scales: { x: { range: (_, low, high) => [high - SPAN_S, high] }, y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1)] } },
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
      axes: [{ ...axis, space: 64, size: 34, values: (_, ticks) => ticks.map((tick) => new Date(tick * 1000).toISOString().slice(11, 16)) }, { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? compact.format(tick) : "")) }],
      series: [{}, ...names.map((name) => ({ label: name, stroke: colour(this.hue(name)), width: 2, points: { show: false } }))],
    }, data, this.node);
  }
  end() { this.plot?.destroy(); this.size.disconnect(); }
}
const SPAN_S = 600;
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function swatch(hue, name) {
  const mark = h("span", { class: "swatch", "aria-hidden": "true" });
  mark.style.background = `var(${hue})`;
  return h("span", {}, mark, name);
}
