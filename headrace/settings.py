"""Every setting, and where it comes from: flag, then environment, then `.env`, then TOML, then the default.

Our own are `HEADRACE_<NAME>` (nested ones with `__`), librdkafka's are `KAFKA_<UPPER_SNAKE>`, or `[kafka]`
in the TOML file. Any of them may end in `_FILE` and name a file that holds the value.
"""

import os
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as PydanticSettingsError

from headrace.gateway.endpoints import notification_of
from headrace.librdkafka import SECRET, VARIABLES, UnknownOption, checked, option_name
from headrace.windows import settlement_of
from schemas.codec import STRING_MOST
from streams.rules import Rules, ScreeningRules, screening_rules
from topologies.engine.config import ClusterConfig, EngineConfig
from topologies.engine.identity import settings_json
from topologies.engine.limits import LIMITS, Limits

PREFIX = "HEADRACE_"
CONFIG_FILE = "headrace.toml"
SECOND = 1_000_000
Rule = TypeVar("Rule")
ELSEWHERE = frozenset(
    {"CACHE", "MAVEN_REPOSITORY", "BROKER_HEAP", "CRASH_AT", "STOP_AT", "WRONG_CLOCK", "CONFIG", "LIVES", "SUPERVISED"}
)
"""HEADRACE_ variables that other modules read themselves."""


class SettingsError(Exception):
    """A setting is wrong: the message names it, the reason and the way out. Exit 2."""


class NoCluster(Exception):
    """Nobody said where Kafka is, and no local broker runs. Exit 3."""


MAY_BE_ZERO = frozenset({"floor_ms", "free_disk_mb"})
"""Limits that 0 turns off."""

Span = Annotated[int, Field(gt=0, le=100 * 365 * 86_400)]
"""Seconds, at most a century."""


class RuleSettings(BaseModel):
    """`[rule]`, or HEADRACE_RULE__<NAME>: the spans of docs/rules.md, in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key_window_s: Span | None = None
    payment_kept_s: Span | None = None
    max_intent_age_s: Span | None = None
    duplicate_window_s: dict[str, Span] | None = None
    review_deadline_s: Span | None = None
    step_up_deadline_s: Span | None = None
    pan_guard: bool | None = None

    @model_validator(mode="after")
    def _answers_outlive_keys(self) -> Self:
        """A bound key may ask for its answer, which the payment's row keeps (R21)."""
        rules = self.rules(ScreeningRules())
        if rules.payment_kept < rules.key_window:
            kept, window = rules.payment_kept // SECOND, rules.key_window // SECOND
            raise ValueError(f"payment_kept_s is {kept}, less than key_window_s, {window}; make it at least as long")
        return self

    def rules(self, screening: ScreeningRules) -> Rules:
        """The rules: defaults where nothing is set."""
        changed: dict[str, Any] = {"screening": screening}
        for name, value in self:
            if value is None:
                continue
            in_seconds = name.endswith("_s") and name not in {"max_intent_age_s", "duplicate_window_s"}
            changed[name.removesuffix("_s") if in_seconds else name] = value * SECOND if in_seconds else value
        return Rules(**changed)


class Settings(BaseSettings):
    """All settings, checked. Make one by `load`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    home: Path = Path(".headrace")
    """Folder of all local state."""
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{0,100}$")] = ""
    """Stands before every topic, group and transactional id."""
    instance: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,64}$")] | None = None
    """Name of this worker, stable over restarts; None takes the first free slot of this host."""
    partitions: Annotated[int, Field(ge=1, le=1000)] = 4
    """Partitions of new topics."""
    replication: Annotated[int, Field(ge=1, le=100)] | None = None
    """Replicas of new topics; None: what the brokers are set to."""
    screening: Path | None = None
    """TOML file with screening's thresholds; None takes headrace/screening.toml."""
    settlement: Path | None = None
    """TOML file with fees and settlement windows; None takes headrace/settlement.toml."""
    endpoints: Path | None = None
    """TOML file with the webhook endpoints (headrace/gateway/endpoints.py); None: there are none."""
    gateway_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """Port of the gateway's streams and pages; 0 takes a free one; None: 6065, or a free one where `port` is 0."""
    gateway_allow_loopback: bool = False
    """Webhooks may go to this machine, also by http: for tests."""
    gateway_origins: tuple[Annotated[str, Field(pattern=r"^https?://[^/@\s]+$")], ...] = ()
    """Origins, such as https://pay.example, under which the gateway may be reached and its streams be read."""
    web_host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 6066
    """Port of /metrics, /livez and /readyz; 0 takes a free one."""
    group_protocol: Literal["classic", "consumer"] = "classic"
    """The consumer group's protocol; `consumer` is KIP-848."""
    log_level: Annotated[str, Field(pattern=r"^(?i:debug|info|warning|error)$")] = "info"
    rule: RuleSettings = RuleSettings()
    limit: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """The engine's limits by their names (topologies/engine/limits.py), where they are not the default."""
    kafka: dict[str, str] = Field(default_factory=dict)
    """librdkafka's options by their own names."""

    @field_validator("limit")
    @classmethod
    def _known(cls, limit: dict[str, float]) -> dict[str, float]:
        names = [field.name for field in fields(LIMITS)]
        if unknown := sorted(set(limit) - set(names)):
            near = get_close_matches(unknown[0], names, 1) or names
            raise ValueError(f"{unknown[0]} is no limit; did you mean {near[0]}?")
        if zero := [name for name, value in limit.items() if not value and name not in MAY_BE_ZERO]:
            raise ValueError(f"{zero[0]} must be more than 0")
        return limit

    def limits(self) -> Limits:
        """The engine's limits."""
        return replace(LIMITS, **{name: type(getattr(LIMITS, name))(value) for name, value in self.limit.items()})

    def cluster(self) -> ClusterConfig:
        """Where Kafka is: bootstrap.servers, else the local broker that runs.

        Raises NoCluster where there is neither.
        """
        options = dict(self.kafka)
        bootstrap = options.pop("bootstrap.servers", None) or options.pop("metadata.broker.list", None)
        return ClusterConfig(bootstrap or _local(self.home), self.topic_prefix, options)

    def engine(self) -> EngineConfig:
        """What a worker is told. Raises NoCluster and SettingsError."""
        from headrace import __version__

        return EngineConfig(
            cluster=self.cluster(),
            home=self.home,
            instance=self.instance,
            web_host=self.web_host,
            web_port=self.port,
            rules=self.rules(),
            version=__version__,
            group_protocol=self.group_protocol,
            limits=self.limits(),
        )

    def rules(self) -> Rules:
        """The rules with screening's thresholds, fees, windows and endpoints. Raises SettingsError where a file is wrong."""
        rules = self.rule.rules(_rule_file("screening", self.screening, screening_rules))
        rules = replace(rules, settlement=_rule_file("settlement", self.settlement, settlement_of))
        if self.endpoints is not None:
            rules = replace(rules, notification=_rule_file("endpoints", self.endpoints, notification_of))
        if (size := len(settings_json(rules))) > STRING_MOST:
            raise SettingsError(
                f"the rules have {size} bytes as JSON, and headrace.settings keeps {STRING_MOST} of them; "
                "name fewer endpoints, accounts or merchants"
            )
        return rules

    def shown(self) -> dict[str, Any]:
        """The effective values for people to see, secrets masked."""
        values = self.model_dump(mode="json")
        values["kafka"] = {name: "****" if SECRET.search(name) else value for name, value in self.kafka.items()}
        return values

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Takes what `load` has gathered, and nothing from the environment behind its back."""
        return (init_settings,)


class _Environment(EnvSettingsSource):
    """pydantic's reading of environment variables, over variables that `load` has gathered."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._variables.items()}


def _rule_file(name: str, named: Path | None, rules_of: Callable[[dict[str, Any]], Rule]) -> Rule:
    """The rules in a TOML file, or in the one that is built in. Raises SettingsError."""
    found = resources.files("headrace") / f"{name}.toml" if named is None else named
    try:
        return rules_of(tomllib.loads(found.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(
            f"the {name} file {found} can't be read: {error.strerror}; set {PREFIX}{name.upper()} to one that can"
        ) from error
    except (ValueError, TypeError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise SettingsError(f"the {name} file {found} is wrong: {error}; correct it there") from error


def load(*, config: Path | None = None, options: Iterable[str] = (), **flags: Any) -> Settings:
    """The settings in force.

    `flags` go before everything; `options` are librdkafka's, as `name=value`. `config` is a TOML file that
    must be there; without it HEADRACE_CONFIG, or `headrace.toml` of the current folder where there is one.
    Raises SettingsError.
    """
    variables = _variables()
    layers = (
        _toml(config or _named(variables)),
        _environment({name: value for name, value in variables.items() if name.startswith(PREFIX)}),
        {"kafka": _kafka({name: value for name, value in variables.items() if name.startswith("KAFKA_")})},
        flags,
        {"kafka": dict(_option(text) for text in options)},
    )
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _over(merged, layer)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError("; ".join(_told(one) for one in error.errors(include_url=False))) from None


def _variables() -> dict[str, str]:
    """HEADRACE_ and KAFKA_ variables of `.env` and, above it, the environment; empty ones count as not set."""
    try:
        found = {**dotenv_values(".env"), **os.environ}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the file .env can't be read: {error}; correct or remove it") from error
    return {name: value for name, value in found.items() if value and name.startswith((PREFIX, "KAFKA_"))}


def _named(variables: Mapping[str, str]) -> Path | None:
    named = variables.get(f"{PREFIX}CONFIG")
    return None if named is None else Path(named)


def _toml(path: Path | None) -> dict[str, Any]:
    if path is None:
        path = Path(CONFIG_FILE)
        if not path.exists():
            return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"the settings file {path} can't be read: {error.strerror}; check --config") from error
    except ValueError as error:
        raise SettingsError(f"the settings file {path} is no TOML: {error}; correct it there") from error
    _known(found, f"{path}: ", "")
    if isinstance(kafka := found.get("kafka", {}), dict):
        found["kafka"] = dict(_flat(kafka, str(path)))
    return found


def _flat(table: Mapping[str, Any], where: str, head: str = "") -> Iterator[tuple[str, str]]:
    """The dotted names of librdkafka make nested tables in TOML."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, where, f"{head}{name}.")
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            yield _checked(f"{head}{name}", f"{where}: [kafka] {head}{name}"), text


def _environment(variables: Mapping[str, str]) -> dict[str, Any]:
    plain = _files(variables, {f"{PREFIX}{name.upper()}" for name in Settings.model_fields})
    names = [name.removeprefix(PREFIX) for name in plain]
    names = [name.partition("__")[0].lower() for name in names if name not in ELSEWHERE]
    _known(names, PREFIX, PREFIX)
    for name in plain:
        if name.startswith(f"{PREFIX}KAFKA"):
            raise SettingsError(f"{name} sets nothing; an option of librdkafka is set as KAFKA_<NAME>")
    try:
        return _Environment(plain)()
    except PydanticSettingsError as error:
        raise SettingsError(f"{error}: a table is written as JSON, or its parts with `__`") from error


def _known(names: Iterable[str], where: str, prefix: str) -> None:
    """Raises SettingsError at the first name that no setting has. `prefix` set: names are shown as variables."""
    for name in names:
        if name not in Settings.model_fields:
            near = get_close_matches(name, Settings.model_fields, n=1, cutoff=0.4)
            shown = [one.upper() if prefix else one for one in (name, *near)]
            hint = f"did you mean {prefix}{shown[1]}?" if near else f"known are {', '.join(Settings.model_fields)}"
            raise SettingsError(f"{where}{shown[0]} is no setting; {hint}")


def _kafka(variables: Mapping[str, str]) -> dict[str, str]:
    found = {}
    try:
        for variable, value in _files(variables, VARIABLES).items():
            name = option_name(variable)
            if name is not None:
                found[name] = value
    except UnknownOption as error:
        raise SettingsError(str(error)) from None
    return found


def _files(variables: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    """`X_FILE` becomes X with what the file holds, its last line end cut; names that are known as they stand stay."""
    found = {}
    for name, value in variables.items():
        plain = name.removesuffix("_FILE")
        if plain == name or name in known or (plain not in known and "__" not in plain):
            found[name] = value
            continue
        if plain in variables:
            raise SettingsError(f"{name} and {plain} are both set; remove one of them")
        try:
            found[plain] = Path(value).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{name} names {value}, which can't be read: {error}") from error
    return found


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"-X {text} has no value; write -X name=value")
    return _checked(name.strip(), f"-X {name.strip()}"), value


def _checked(name: str, where: str) -> str:
    try:
        return checked(name, where)
    except UnknownOption as error:
        raise SettingsError(str(error)) from None


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, tables within tables too."""
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        merged[name] = _over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _told(error: ErrorDetails) -> str:
    """One of pydantic's findings as a sentence with the variable's name; never the value of an option."""
    path = [str(part) for part in error["loc"]]
    shown = "" if path[0] == "kafka" or isinstance(error["input"], dict) else f" is {str(error['input'])!r}"
    found = error["msg"].removeprefix("Value error, ")
    return f"{PREFIX}{'__'.join(path).upper()}{shown}: {found[:1].lower()}{found[1:]}"


def _local(home: Path) -> str:
    """Bootstrap address of the local broker. Raises NoCluster where none runs."""
    from headrace.broker import running

    state = running(home)
    if state is None:
        raise NoCluster(
            f"no local Kafka runs under {home}; start one with `headrace up`, or set KAFKA_BOOTSTRAP_SERVERS to yours"
        )
    return str(state.bootstrap)
