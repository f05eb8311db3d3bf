"""The compose file and the image fit the code: no engine is needed to see that."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import typer
import yaml

from headrace import settings
from headrace.broker_config import PROPERTIES
from headrace.cli import app
from headrace.cli.run import ROLES
from headrace.jars import KAFKA_VERSION
from headrace.supervisor import STOP_S

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "headrace:local"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCUMENTS = (ROOT / "docs" / "operations.md", OPS / "prometheus" / "alerts.yml")


def understood(words):
    """What the command line makes of `words`: every command on the way and its parameters. Raises click's errors."""
    command = typer.main.get_command(app)
    context = command.make_context("headrace", list(words))
    while hasattr(command, "resolve_command") and context._protected_args + context.args:
        name, command, rest = command.resolve_command(context, context._protected_args + context.args)
        context = command.make_context(name, rest, parent=context)
    return context.params


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_a_command_that_there_is(name):
    """With options that it has, and a role that is one."""
    params = understood(SERVICES[name]["command"])
    if name in ROLES:
        assert params["roles"] == [name]


def test_every_role_has_a_service_with_a_state_that_lasts():
    """Its place in the group is its host's name and a slot of its volume, so both stay what they are."""
    assert set(ROLES) <= set(OURS)
    for role in ROLES:
        assert SERVICES[role]["hostname"] == role
        assert SERVICES[role]["volumes"] == [f"{role}-state:/var/lib/headrace"]
        assert "HEADRACE_INSTANCE" not in SERVICES[role]["environment"], "two containers would fence each other"
        assert "profiles" not in SERVICES[role]


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_told_settings_that_there_are(name, monkeypatch, tmp_path):
    """A wrong name would stop the worker with exit 2."""
    monkeypatch.chdir(tmp_path)
    for variable in list(os.environ):
        if variable.startswith(("HEADRACE_", "KAFKA_")):
            monkeypatch.delenv(variable)
    for variable, value in (SERVICES[name]["environment"] | image()).items():
        monkeypatch.setenv(variable, str(value))
    told = settings.load()
    bootstrap = told.cluster().bootstrap
    assert bootstrap in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert told.home == Path("/var/lib/headrace")
    assert told.web_host == str(IPv4Address(0)), "another container could not scrape it"


def test_kafka_is_set_as_the_local_broker_is():
    """One configuration, two ways to start it; the broker's image has its settings from its own environment."""
    shared = PROPERTIES[PROPERTIES.index("# Every record") :].format(replicas=1, in_sync=1)
    wanted = dict(line.split("=") for line in shared.splitlines() if line and not line.startswith("#"))
    told = SERVICES["kafka"]["environment"]
    for name, value in wanted.items():
        assert str(told.get(f"KAFKA_{name.upper().replace('.', '_')}")) == value, name
    assert all("env_file" not in service for service in SERVICES.values())


def test_the_health_check_asks_where_the_service_listens():
    """HEADRACE_PORT is the port that the image's check asks."""
    for name in OURS:
        if name != "topics":
            assert int((image() | SERVICES[name]["environment"])["HEADRACE_PORT"]) == listens(name), name


def test_nothing_listens_beyond_this_machine():
    """A published port is one of the loopback interface."""
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), f"{name}: {port}"


def test_every_image_is_pinned():
    """The same file brings the same versions tomorrow; ours is built from the checkout, by one service."""
    for name, service in SERVICES.items():
        if name not in OURS:
            assert re.fullmatch(r"[a-z-]+/[a-z-]+:v?\d+\.\d+\.\d+", service["image"]), name
    assert [name for name, service in SERVICES.items() if "build" in service] == ["topics"]
    assert all("topics" in service["depends_on"] for name, service in OURS.items() if name != "topics")
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_whoever_waits_waits_for_something_that_comes():
    """A service that is waited for is there, in the same profiles, and can be healthy or end."""
    for name, service in SERVICES.items():
        waits = service.get("depends_on", {})
        for other in waits:
            assert set(SERVICES[other].get("profiles", ())) <= set(service.get("profiles", ())), name
        if isinstance(waits, dict):
            for other, how in waits.items():
                healthy = how["condition"] == "service_healthy"
                assert healthy is ("healthcheck" in SERVICES[other] and other not in OURS), name


def test_what_is_mounted_is_there():
    """Files of the checkout exist, read-only; named volumes are declared and used."""
    named = set()
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source, _target, *mode = volume.split(":")
            if source.startswith("."):
                assert (ROOT / source).exists(), f"{name}: {source}"
                assert mode == ["ro"], f"{name}: {source}"
            else:
                named.add(source)
    assert named == set(COMPOSE["volumes"])


def test_a_container_has_longer_to_stop_than_a_worker_takes():
    """Else a graceful stop would end in SIGKILL."""
    for name, service in SERVICES.items():
        if name != "topics":
            assert float(service["stop_grace_period"].removesuffix("s")) > STOP_S, name


def listens(name):
    """The port of a service's pages."""
    told = SERVICES[name]["environment"].get("HEADRACE_GATEWAY_PORT") if name == "gateway" else None
    return told or understood(SERVICES[name]["command"])["port"]


def test_prometheus_finds_its_rules_and_its_targets():
    """Mounted where the configuration says; services by their names, at the ports that they are told."""
    told = yaml.safe_load((OPS / "prometheus" / "prometheus.yml").read_text())
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in SERVICES["prometheus"]["volumes"]}
    assert "--config.file=/etc/prometheus/prometheus.yml" in SERVICES["prometheus"]["command"]
    assert mounted["/etc/prometheus/prometheus.yml"] == "./ops/prometheus/prometheus.yml"
    for path in told["rule_files"]:
        assert mounted[path] == f"./ops/prometheus/{Path(path).name}"
    for job in told["scrape_configs"]:
        for found in job.get("dns_sd_configs", ()):
            for service in found["names"]:
                assert listens(service) == found["port"], service
        for found in job.get("static_configs", ()):
            for host, port in (target.split(":") for target in found["targets"]):
                if host != "localhost":
                    assert listens(host) == int(port)


def test_grafana_finds_prometheus_and_its_dashboards():
    """Provisioned from ops/, where the container has them; the page at the start is one of them."""
    grafana = SERVICES["grafana"]
    mounted = {volume.split(":")[1]: ROOT / volume.split(":")[0] for volume in grafana["volumes"] if volume[0] == "."}
    provisioned = mounted["/etc/grafana/provisioning"]
    [source] = yaml.safe_load((provisioned / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((provisioned / "dashboards" / "headrace.yml").read_text())["providers"]
    folder = mounted[provider["options"]["path"]]
    assert {path.name for path in folder.glob("*.json")} == {"consumer-lag.json", "payments.json"}
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (mounted[str(home.parent)] / home.name).exists()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_operators_are_told_commands_that_there_are(path):
    """Whoever follows a runbook at night meets no wrong option."""
    found = re.findall(r"`(headrace [^`]+)`|exec core (headrace [a-z ]+?)  ", path.read_text())
    told = {one or other for one, other in found}
    assert len(told) > 5
    for line in told:
        understood(["X" if word.isupper() else word for word in line.split()[1:] if word != "ROLE"])


def test_docker_compose_takes_the_file():
    """Both profiles, by docker-compose or by docker's plugin of that name."""
    for words in (["docker-compose"], ["docker", "compose"]):
        if (
            shutil.which(words[0])
            and subprocess.run([*words, "version"], capture_output=True, check=False).returncode == 0
        ):
            break
    else:
        pytest.skip("docker-compose is not installed; `config`, which needs no engine, can't be asked")
    done = subprocess.run(
        [*words, "--profile", "observability", "config"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(SERVICES)


def instructions():
    """The Dockerfile's, with lines joined: (word, rest)."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line and not line.startswith("#")]


def image():
    """The image's environment."""
    [told] = [rest for word, rest in instructions() if word == "ENV"]
    return {name: value for name, value in (pair.split("=") for pair in told.split()) if name.startswith("HEADRACE_")}


def copied():
    """What the Dockerfile takes from the checkout."""
    return [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]


def test_the_image_takes_what_is_there_and_what_it_needs():
    """Every source exists, the packages are all there, and .dockerignore lets through just these."""
    assert all((ROOT / source).exists() for source in copied())
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(copied()) == {*packages, "pyproject.toml", PROJECT["project"]["readme"], "LICENSE", "NOTICE"}
    ignore = (ROOT / ".dockerignore").read_text().split("\n*\n")[1].split()
    assert {line[1:] for line in ignore if line.startswith("!")} == set(copied())
    assert {line for line in ignore if not line.startswith("!")} == {"**/__pycache__", "**/*.pyc"}
    for secret in (".env", ".git/config", ".headrace/state", "tests/house/test_ops.py"):
        assert not any(fnmatch.fnmatch(secret, f"{source}*") for source in copied()), secret


def test_the_image_installs_the_checkout_without_the_broker():
    """Wheels only, and of the extras only those that pyproject.toml has, never Java."""
    [install] = re.findall(
        r"install (.+)", next(rest for word, rest in instructions() if "pip" in rest and word == "RUN")
    )
    assert "--only-binary :all:" in install
    [_, extras] = re.fullmatch(r"'(\.)\[([a-z0-9,]+)\]'", install.split()[-1]).groups()
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"]) - {"broker", "dev", "bench"}


def test_the_image_runs_headrace_as_nobody_in_particular():
    """Not as root; its state is a volume that the user may write to; the entry is the command line."""
    last = dict(instructions())
    assert last["USER"] == "headrace"
    assert json.loads(last["ENTRYPOINT"]) == [next(iter(PROJECT["project"]["scripts"]))]
    assert last["VOLUME"] == last["WORKDIR"] == image()["HEADRACE_HOME"]
    assert any(
        f"-o headrace -g headrace -m 0750 {last['VOLUME']}" in rest for word, rest in instructions() if word == "RUN"
    )
    python = {
        re.fullmatch(r"python:(\d+\.\d+)-slim-[a-z]+( AS build)?", rest)[1]
        for word, rest in instructions()
        if word == "FROM"
    }
    assert len(python) == 1, "a virtual environment belongs to one Python"


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_image_asks_livez_for_its_health(status, healthy):
    """The check is run as it stands in the Dockerfile: well, not well, and nobody there."""
    words = json.loads(re.search(r"CMD (\[.*\])", dict(instructions())["HEALTHCHECK"])[1])
    assert words[:2] == ["python", "-c"]
    asked = []

    class Worker(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Worker) as server:
        port = server.server_address[1]
        if status is None:
            server.server_close()
        else:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        env = {**os.environ, "HEADRACE_PORT": str(port)}
        done = subprocess.run([sys.executable, *words[1:]], env=env, capture_output=True, check=False, timeout=60)
        assert (done.returncode == 0) is healthy
        assert asked == ([] if status is None else ["/livez"])
        if status is not None:
            server.shutdown()
