"""Rules and dashboards ask for what there is, and nothing that there is goes unseen."""

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import promql
import pytest
import yaml

from headrace import exporter
from headrace.cli.run import ROLES
from headrace.gateway.metrics import GatewayMetrics
from headrace.metrics import Metrics
from headrace.pace import LagStatus

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
PROMETHEUS = OPS / "prometheus"
BOOK = ROOT / "docs" / "operations.md"
DASHBOARDS = sorted((OPS / "grafana" / "dashboards").glob("*.json"))
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
SCRAPED = {"job", "instance", "service"}
"""Labels that Prometheus adds to all it scrapes."""
BUILT_IN = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}
"""Series that Prometheus makes itself."""
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
OMITTED = {
    "process_virtual_memory_bytes": "resident memory is what runs out",
    "python_info": "headrace_build_info has the version",
    "kafka_consumergroup_lag": "the same numbers under another exporter's name, for boards that people have already",
}
"""Metrics that no dashboard shows, and why."""


def document(path):
    return yaml.safe_load(path.read_text())


def rules(name, kind):
    return [rule for group in document(PROMETHEUS / name)["groups"] for rule in group["rules"] if kind in rule]


ALERTS = rules("alerts.yml", "alert")
RECORDED = {rule["record"]: rule["expr"] for rule in rules("recording.yml", "record")}


def board(path):
    return json.loads(path.read_text())


def panels(path):
    return [panel for panel in board(path)["panels"] if panel["type"] != "row"]


def queries():
    """Every expression, by where it stands."""
    found = [(f"alert {rule['alert']}", rule["expr"]) for rule in ALERTS]
    found += [(f"rule {name}", expression) for name, expression in RECORDED.items()]
    for path in DASHBOARDS:
        for panel in panels(path):
            found += [(f"{path.stem}: {panel['title']}", target["expr"]) for target in panel["targets"]]
    return found


QUERIES = queries()


def collected(registry):
    """Label names by the names under which a registry's metrics are served."""
    found = {}
    for collector in registry._collector_to_names:
        labels = set(getattr(collector, "_labelnames", ()))
        for family in collector.collect():
            ends = SUFFIXES.get(family.type, ("",))
            more = {"le"} if family.type == "histogram" else set()
            told = {label for sample in family.samples for label in sample.labels}
            found |= {family.name + end: labels | told | (more if end == "_bucket" else set()) for end in ends}
    return found


def served():
    """Every series that can be queried, and its labels."""
    found = {**BUILT_IN, **collected(GatewayMetrics().registry), **collected(Metrics().registry)}
    exported = {**exporter.GAUGES, **exporter.COUNTERS, exporter.ALIAS: ("", exporter._ALIAS_LABELS)}
    assert set(exported) == exporter.metric_names()
    for name, (_text, labels) in exported.items():
        found[name] = found.get(name, set()) | set(labels)
    for name in RECORDED:
        found[name] = set(name.split(":")[0].split("_"))
    return {
        name: labels if name in RECORDED or name == "ALERTS" else labels | SCRAPED for name, labels in found.items()
    }


SERVED = served()


@pytest.mark.parametrize(("where", "expression"), QUERIES, ids=[where for where, _ in QUERIES])
def test_a_query_asks_only_for_what_is_served(where, expression):
    """A panel or an alert over a metric or a label that does not exist is silent for ever."""
    query = promql.read(expression)
    assert query.metrics, where
    for name, labels in query.metrics.items():
        assert name in SERVED, f"{where}: there is no {name}"
        assert labels <= SERVED[name], f"{where}: {name} has no label {sorted(labels - SERVED[name])}"
    there = set().union(*(SERVED[name] for name in query.metrics))
    for grouped in query.grouped:
        assert set(grouped) <= there, f"{where}: none of {sorted(query.metrics)} has {sorted(set(grouped) - there)}"


def test_every_metric_is_shown_or_left_out_for_a_reason():
    """Who adds a metric decides where it is seen; a histogram is seen when one of its series is."""
    shown = set()
    for where, expression in QUERIES:
        if not where.startswith("alert "):
            shown |= set(promql.read(expression).metrics)
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in SERVED}
    seen = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert families - seen == set(OMITTED)


def test_a_recording_rule_is_named_by_the_labels_it_keeps_and_is_used():
    """`role_phase:metric:p99_5m` has the labels role and phase, and somebody asks for it."""
    used = set().union(*(promql.read(expression).metrics for _, expression in QUERIES))
    for name, expression in RECORDED.items():
        for grouped in promql.read(expression).grouped:
            assert set(grouped) - {"le"} == set(name.split(":")[0].split("_")), name
        assert name.split(":")[1] in re.sub(r"_(bucket|total)\b", "", expression) or "_not_committed" in name, name
        assert name in used, name


def anchors():
    """The headings of docs/operations.md, as links name them."""
    found = re.findall(r"^#+ (.+)$", BOOK.read_text(), re.MULTILINE)
    return [re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in found]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_the_way_out(rule):
    """Severity, a sentence, the way out, and a chapter of docs/operations.md; only labels that the alert has."""
    told = rule["annotations"]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(told) == {"summary", "description", "runbook"}
    assert told["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
    assert rule["alert"].lower() in anchors()
    query = promql.read(rule["expr"])
    there = set().union(*(SERVED[name] for name in query.metrics))
    kept = set(query.grouped[0]) if re.match(r"\w+ by \(", rule["expr"]) else there
    assert set(re.findall(r"\$labels\.(\w+)", " ".join(told.values()))) <= kept


def test_every_alert_is_tested_both_ways():
    """Promtool's tests have a moment at which it fires and one at which it does not."""
    fires, quiet = set(), set()
    for path in TESTS:
        for test in document(path)["tests"]:
            for one in test.get("alert_rule_test", ()):
                (fires if one["exp_alerts"] else quiet).add(one["alertname"])
    names = {rule["alert"] for rule in ALERTS}
    assert fires == names
    assert quiet == names


def test_every_recording_rule_is_tested():
    """Promtool's tests say what it is for given series."""
    text = (PROMETHEUS / "tests" / "recording.yml").read_text()
    asked = set().union(
        *(promql.read(one["expr"]).metrics for t in yaml.safe_load(text)["tests"] for one in t["promql_expr_test"])
    )
    assert asked == set(RECORDED)


def test_the_status_words_are_those_of_the_code():
    """In the same order, the best first: rules, dashboard and `headrace lag` say the same."""
    words = [str(word) for word in LagStatus]
    assert re.findall(r'status="([a-z-]+)"} \* (\d)', RECORDED["group_topic:headrace_lag_status:code"]) == [
        (word, str(number)) for number, word in enumerate(words)
    ]
    timeline = next(
        panel for panel in panels(OPS / "grafana/dashboards/consumer-lag.json") if "timeline" in panel["type"]
    )
    [mapping] = timeline["fieldConfig"]["defaults"]["mappings"]
    assert [mapping["options"][str(number)]["text"] for number in range(len(words))] == words
    alerted = re.findall(r'status="([a-z-]+)"', " ".join(rule["expr"] for rule in ALERTS))
    assert set(words) - set(alerted) == {"ok"}
    for word in words:
        assert f"`{word}`" in BOOK.read_text()


def test_every_role_is_missed_when_it_is_gone():
    """A role that is added is scraped, and its absence pages."""
    missing = next(rule for rule in ALERTS if rule["alert"] == "WorkerMissing")
    assert set(re.findall(r'service="(\w+)"', missing["expr"])) == set(ROLES)
    workers = document(PROMETHEUS / "prometheus.yml")["scrape_configs"][0]
    assert {name for found in workers["dns_sd_configs"] for name in found["names"]} == set(ROLES)


def codes():
    """The code of every alert that decisions and engine raise."""
    text = "\n".join(path.read_text() for folder in ("streams", "topologies") for path in (ROOT / folder).rglob("*.py"))
    found = set(re.findall(r'\bAlert\(\s*"([a-z-]+)"', text)) | set(
        re.findall(r'^LOST = "([a-z-]+)"', text, re.MULTILINE)
    )
    assert len(found) == len(re.findall(r"\bAlert\((?!NamedTuple)", text)) + 1, "an alert whose code is not written out"
    return found


def test_every_alert_of_the_engine_has_its_line():
    """docs/operations.md says of each code what to do."""
    for code in codes():
        assert f"`{code}`" in BOOK.read_text(), code


def test_the_codes_that_page_are_codes_of_the_engine():
    """A typing mistake in a rule would keep it quiet."""
    [named] = {match for rule in ALERTS for match in re.findall(r'code=~"([a-z|-]+)"', rule["expr"])}
    assert set(named.split("|")) <= codes()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_explains_itself(path):
    """Each panel has a unit, plain words, and the data source that is provisioned; none covers another."""
    [source] = document(OPS / "grafana/provisioning/datasources/prometheus.yml")["datasources"]
    for panel in panels(path):
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": source["type"], "uid": source["uid"]}, panel["title"]
    found = board(path)["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    for one, other in combinations([panel["gridPos"] for panel in found], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)
        assert max(one["x"] + one["w"], other["x"] + other["w"]) <= 24


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_has_the_variables_it_uses(path):
    """Each is filled by a metric and a label that exist, and links lead to dashboards that are there."""
    found = board(path)
    declared = {}
    for variable in found["templating"]["list"]:
        declared[variable["name"]] = variable["query"]["query"]
        expression, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
        [name] = promql.read(expression).metrics
        assert label in SERVED[name], variable["name"]
    used = set(
        re.findall(r"\$(\w+)", " ".join(target["expr"] for panel in panels(path) for target in panel["targets"]))
    )
    assert used == set(declared)
    assert {link["url"] for link in found["links"]} <= {f"/d/{board(other)['uid']}" for other in DASHBOARDS}


def promtool(*words):
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed; Debian and Ubuntu have it in the package prometheus")
    done = subprocess.run([found, *words], capture_output=True, text=True, check=False, cwd=PROMETHEUS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_configuration_and_the_rules(tmp_path):
    """Prometheus will start with them."""
    promtool("check", "rules", "alerts.yml", "recording.yml")
    local = (PROMETHEUS / "prometheus.yml").read_text().replace("/etc/prometheus/", f"{PROMETHEUS}/")
    (tmp_path / "prometheus.yml").write_text(local)
    promtool("check", "config", str(tmp_path / "prometheus.yml"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_promtool_finds_every_rule_right(path):
    """Each alert fires, and does not fire, where its test says."""
    promtool("test", "rules", str(path))
