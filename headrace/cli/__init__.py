"""The command line. `main` is the entry; each command lives in a module of its own beside this one."""

import importlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from headrace import __version__
from headrace.cli import common

app = typer.Typer(
    name="headrace",
    help="A Kafka-native, event-sourced payment pipeline: exactly once, double entry, replayable.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = {
    "up": "broker",
    "down": "broker",
    "status": "broker",
    "run": "run",
    "demo": "demo",
    "publish": "publish",
    "audit": "audit",
    "lag": "lag",
    "console": "console",
    "exporter": "exporter",
}
"""Command, which is also its function's name, and its module."""
GROUPS = ("topics", "account", "replay", "dlq", "webhooks")
"""Commands with commands of their own, which are also their modules' names."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"headrace {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="TOML file with settings.  [headrace.toml if there]")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("-X", metavar="NAME=VALUE", help="An option of librdkafka; may be repeated.")
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    common.chosen = common.Global(config, tuple(options or ()))


def _register() -> None:
    for name, module in COMMANDS.items():
        found = importlib.import_module(f"headrace.cli.{module}")
        app.command(name)(getattr(found, name))
    for name in GROUPS:
        app.add_typer(importlib.import_module(f"headrace.cli.{name}").app, name=name)


def explain(error: BaseException) -> tuple[str, int] | None:
    """Message and exit code of an exception that a user can do something about; None for a fault of ours.

    Goes by the class's full name, so that nothing heavy is imported to say that nothing went wrong.
    """
    for kind in type(error).__mro__:
        code = _CODES.get(f"{kind.__module__}.{kind.__qualname__}")
        if code is not None:
            return str(error), code
    if f"{type(error).__module__}.{type(error).__qualname__}" == "cimpl.KafkaException":
        return _of_kafka(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check the path and its rights", common.FAILED
    return None


_CODES = {
    "headrace.settings.SettingsError": common.USAGE,
    "headrace.settings.NoCluster": common.UNREACHABLE,
    "headrace.jars.BrokerError": common.UNREACHABLE,
    "headrace.checks.Refused": common.FAILED,
    "headrace.missing.MissingTopics": common.UNREACHABLE,
    "headrace.webhooks.UnknownEndpoint": common.USAGE,
    "headrace.webhooks.UnknownEvent": common.FAILED,
    "replay.accounts.BooksDisagree": common.FAILED,
    "replay.accounts.UnknownAccount": common.FAILED,
    "replay.export.NoAnalytics": common.USAGE,
    "replay.export.NoSuchTopic": common.USAGE,
    "replay.letters.BadLetterId": common.USAGE,
    "replay.letters.NoSuchLetter": common.FAILED,
    "replay.letters.ReceiptUnreadable": common.FAILED,
    "replay.manifest.DumpDamaged": common.FAILED,
    "replay.manifest.OtherDump": common.USAGE,
    "replay.reader.TopicMissing": common.UNREACHABLE,
    "replay.reader.Unreachable": common.UNREACHABLE,
    "replay.selection.BadSelection": common.USAGE,
    "replay.story.UnknownPayment": common.FAILED,
    "replay.story.Unreadable": common.FAILED,
    "replay.window.BadWindow": common.USAGE,
    "topologies.engine.admin.ClusterUnreachable": common.UNREACHABLE,
    "topologies.engine.sender.Undelivered": common.UNREACHABLE,
    "topologies.engine.errors.WorkerStopped": common.FAILED,
    "topologies.engine.redrive.Taken": common.FAILED,
    "topologies.engine.redrive.Undone": common.UNREACHABLE,
}


def _of_kafka(error: BaseException) -> tuple[str, int]:
    from confluent_kafka import KafkaError

    found = error.args[0]
    if not isinstance(found, KafkaError):
        return f"Kafka: {error}", common.FAILED
    if found.name() in {"_INVALID_ARG", "_CONFLICT"}:
        return f"an option of Kafka's client is wrong: {found.str()}; check KAFKA_* and -X", common.USAGE
    text = f"Kafka: {found.str()} ({found.name()})"
    if found.code() < 0:
        return f"{text}; is the broker up, and KAFKA_BOOTSTRAP_SERVERS right?", common.UNREACHABLE
    return text, common.FAILED


def main() -> None:
    """Runs the command line and exits: 0 done, 1 a check failed, 2 wrong usage, 3 a service can't be reached."""
    if not __debug__:
        sys.stderr.write("headrace: python -O removes the checks that guard money; run without -O and PYTHONOPTIMIZE\n")
        sys.exit(common.USAGE)
    try:
        app(prog_name="headrace")
    except SystemExit as ended:
        if ended.code:
            cause = ended.__context__  # what a command or typer itself has ended with, and said
            told = getattr(cause, "format_message", lambda: "interrupted")
            common.print_error(told(), int(ended.code))
        raise
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        common.say(f"headrace: {explained[0]}")
        common.print_error(*explained)
        sys.exit(explained[1])


_register()
