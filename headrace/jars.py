"""Kafka's jars: fetched once by jgo, held to the SHA-256 sums of `kafka.lock`, shared by every home of this user.

Source: `headrace/kafka.lock`, jgo's lock file of the run-time closure of COORDINATES. To renew it after a change of
COORDINATES: `python -m headrace.jars > headrace/kafka.lock`.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import sys
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

KAFKA_VERSION = "4.3.1"
COORDINATES = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.slf4j:slf4j-simple:1.7.36")
"""What the lock resolves; without a binding of slf4j Kafka logs nothing."""
LOCK = Path(__file__).with_name("kafka.lock")

FETCHERS = 4
"""Jars that are fetched at a time."""
HTTP_TIMEOUT_SECONDS = 30
STALE_PARTS_PREFIX = "fetching-"


class BrokerError(Exception):
    """The local broker cannot do what was asked; the message names the thing, the reason and the way out."""


class Jar(NamedTuple):
    """One line of the lock: an artifact and the SHA-256 (hex) of its file."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """Its file name, in the cache as in a repository."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def coordinate(self) -> str:
        """group:artifact:version."""
        return f"{self.group}:{self.artifact}:{self.version}"


def read_lock(path: Path = LOCK) -> list[Jar]:
    """The jars of a lock file, in classpath order. Raises BrokerError when the file is missing or damaged."""
    try:
        rows = tomllib.loads(path.read_text("utf-8"))["dependencies"]
        jars = [Jar(row["groupId"], row["artifactId"], row["version"], row["sha256"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokerError(f"The lock file {path} cannot be read ({error}). Install headrace again.") from None
    if not jars:
        raise BrokerError(f"The lock file {path} names no jars. Install headrace again.")
    return jars


def cache_home() -> Path:
    """HEADRACE_CACHE, else headrace's folder under XDG_CACHE_HOME, else ~/.cache/headrace."""
    own = os.environ.get("HEADRACE_CACHE")
    if own:
        return Path(own).expanduser().resolve()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared).expanduser() if shared else Path.home() / ".cache").resolve() / "headrace"


def classpath(cache: Path | None = None, lock: Path = LOCK) -> list[Path]:
    """Every jar of the lock, verified just now; fetches what is missing, and only that.

    With all jars there, no network call is made. A jar with a wrong sum is deleted. Raises BrokerError.
    """
    jars = read_lock(lock)
    folder = (cache or cache_home()) / f"kafka-{KAFKA_VERSION}"
    if os.pathsep in str(folder):
        raise BrokerError(
            f"The cache folder {folder} has a {os.pathsep!r} in its name, which Java's classpath cannot hold. "
            "Set HEADRACE_CACHE to another folder."
        )
    with disk_trouble(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / f"kafka-{KAFKA_VERSION}.lock"):
            _verify(folder, jars)
            missing = [jar for jar in jars if not (folder / jar.file).exists()]
            if missing:
                _fetch(folder, missing, len(jars))
    return [folder / jar.file for jar in jars]


@contextmanager
def disk_trouble(folder: Path) -> Iterator[None]:
    """Turns what the disk says (full, read-only, forbidden) into a BrokerError that names `folder`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"The disk that holds {folder} is full ({free_mb(folder)} MB free)."
            way_out = "Nothing half-written was kept. Free some space (Kafka's jars need 50 MB) and repeat the command."
        else:
            reason = f"{error.filename or folder} cannot be used: {error.strerror or error}."
            way_out = "Make it writable, or choose another folder by HEADRACE_HOME (data) or HEADRACE_CACHE (jars)."
        raise BrokerError(f"{reason} {way_out}") from error


def sha256_of(path: Path) -> str:
    """The file's SHA-256, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process, so a killed one leaves nothing behind."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _tell("Another headrace is fetching Kafka's jars; waiting for it ...\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _verify(folder: Path, jars: Sequence[Jar]) -> None:
    """Every jar that is there is the one of the lock; deletes the first that is not, and says so."""
    for jar in jars:
        path = folder / jar.file
        if path.exists():
            _hold_to_lock(path, jar)


def _hold_to_lock(path: Path, jar: Jar) -> None:
    found = sha256_of(path)
    if found == jar.sha256:
        return
    path.unlink()
    raise BrokerError(
        f"{jar.coordinate} is not the jar of the lock: expected SHA-256 {jar.sha256}, found {found} in {path}. "
        "The file was deleted. Repeat the command to fetch it again; if that ends the same way, the repository "
        "serves another file: set HEADRACE_MAVEN_REPOSITORY to one you trust."
    )


def _fetch(folder: Path, missing: Sequence[Jar], total: int) -> None:
    """Fetches into a folder beside; a jar is moved into place only when it is whole and its sum is right.

    So an interrupted fetch keeps the jars that were finished, and the next one clears the rest away.
    """
    for old in folder.glob(f"{STALE_PARTS_PREFIX}*"):  # nobody else fetches: the caller holds the lock
        shutil.rmtree(old, ignore_errors=True)
    progress = _Progress(total - len(missing), total)
    parts = Path(tempfile.mkdtemp(prefix=STALE_PARTS_PREFIX, dir=folder))
    try:
        with ThreadPoolExecutor(FETCHERS) as pool:
            waiting = [pool.submit(_fetch_one, parts, folder, jar, progress) for jar in missing]
            try:
                done, _ = wait(waiting, return_when=FIRST_EXCEPTION)
            except BaseException:  # Ctrl-C: do not begin the others
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            pool.shutdown(wait=True, cancel_futures=True)
            for future in done:
                future.result()
    finally:
        progress.close()
        shutil.rmtree(parts, ignore_errors=True)


def _fetch_one(parts: Path, folder: Path, jar: Jar, progress: "_Progress") -> None:
    try:
        from jgo.maven import MavenContext, PythonResolver
        from requests import RequestException
    except ImportError:
        raise BrokerError(
            "jgo, which fetches Kafka's jars, is not installed. Install headrace[broker], "
            "or set KAFKA_BOOTSTRAP_SERVERS to use a Kafka of your own."
        ) from None
    repositories = _repositories()
    context = MavenContext(
        resolver=PythonResolver(progress_callback=progress.of_file),
        repo_cache=parts,
        remote_repos=repositories,
        timeout=HTTP_TIMEOUT_SECONDS,
    )
    try:
        part = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    except (RequestException, RuntimeError) as error:
        raise BrokerError(
            f"{jar.coordinate} could not be fetched from {_names(context.remote_repos)}: {_reason(error)}. "
            "Jars that are complete were kept. Check the network (HTTPS_PROXY is honoured) and repeat the command, "
            "set HEADRACE_MAVEN_REPOSITORY to a Maven repository that can be reached, "
            "or KAFKA_BOOTSTRAP_SERVERS to use a Kafka of your own."
        ) from None
    _hold_to_lock(part, jar)
    part.replace(folder / jar.file)
    progress.jar_done()


def _repositories() -> dict[str, str] | None:
    """HEADRACE_MAVEN_REPOSITORY (URLs, comma between them) instead of the one that jgo knows."""
    urls = [url.strip().rstrip("/") for url in os.environ.get("HEADRACE_MAVEN_REPOSITORY", "").split(",")]
    named = {f"repository-{number}": url for number, url in enumerate(filter(None, urls), 1)}
    for url in named.values():
        if not url.startswith(("https://", "http://")):
            raise BrokerError(f"HEADRACE_MAVEN_REPOSITORY holds {url!r}, which is no http(s) URL.")
    return named or None


def _reason(error: BaseException) -> str:
    """What went wrong at the bottom: requests and urllib3 wrap it several times."""
    if isinstance(error, RuntimeError):
        return "it is not there"
    while True:
        inner = getattr(error, "reason", None) or next(iter(error.args), None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    return _without_secrets(str(error).partition("): ")[2] or error)


def _names(repositories: dict[str, str]) -> str:
    return _without_secrets(", ".join(repositories.values()))


def _without_secrets(text: object) -> str:
    """Without the user and password that a URL may carry."""
    return re.sub(r"//[^/\s@]+@", "//***@", str(text)).rstrip(".")


def free_mb(folder: Path) -> int:
    """Free megabytes on the disk that holds `folder`, which need not be there yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free // 1_000_000


def _tell(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


class _Progress:
    """What is fetched so far, on standard error: one line that moves on a terminal, else a line per 8 jars."""

    def __init__(self, done: int, total: int) -> None:
        self._done, self._total, self._bytes = done, total, 0
        self._lock = threading.Lock()
        self._moving = sys.stderr.isatty()
        self._shown = ""
        _tell(f"Fetching Apache Kafka {KAFKA_VERSION}: {total - done} jars (once)\n")

    @contextmanager
    def of_file(self, _name: str, _size: int) -> Iterator[Callable[[int], None]]:
        """Is jgo's progress callback: yields what is called with the size of each piece."""
        yield self._count

    def _count(self, size: int) -> None:
        with self._lock:
            self._bytes += size
            if self._moving:
                self._show("\r")

    def jar_done(self) -> None:
        """One more jar is in place."""
        with self._lock:
            self._done += 1
            if self._moving or self._done % 8 == 0 or self._done == self._total:
                self._show("\r" if self._moving else "\n")

    def _show(self, end: str) -> None:
        line = f"  {self._done} of {self._total} jars, {self._bytes / 1e6:.1f} MB"
        if line != self._shown:
            self._shown = line
            _tell(line + end)

    def close(self) -> None:
        """Leaves the moving line."""
        if self._moving and self._shown:
            _tell("\n")


def resolve_lock() -> str:
    """A fresh lock of COORDINATES in jgo's format: asks the repository, fetches every jar, sums it up."""
    from jgo.env import LockFile
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder), remote_repos=_repositories(), timeout=HTTP_TIMEOUT_SECONDS)
        wanted = [context.create_dependency(coordinate) for coordinate in COORDINATES]
        inputs, transitive = context.resolver.resolve(wanted)
        needed = [*inputs, *(dep for dep in transitive if dep.scope in ("compile", "runtime"))]
        target = Path(folder) / "kafka.lock"
        LockFile.from_resolved_dependencies(needed, environment_name=f"kafka-{KAFKA_VERSION}").save(target)
        return target.read_text("utf-8")


if __name__ == "__main__":
    sys.stdout.write(resolve_lock())
