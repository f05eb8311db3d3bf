"""Kafka's jars are the ones of the lock, or nothing starts. A repository on the loopback interface serves the files."""

import errno
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from headrace import jars
from headrace.jars import BrokerError

FILES = {f"part-{n}": f"the jar of part {n}".encode() * 1000 for n in range(6)}


class Repository(ThreadingHTTPServer):
    """Serves FILES as a Maven repository does; `asked` has the paths, `broken` the artifacts that end half-way."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(FILES)
        self.broken: set[str] = set()
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        name = self.path.split("/")[-3]
        if not self.path.endswith(".jar") or name not in self.server.files:
            self.send_error(404)
            return
        data = self.server.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if name in self.server.broken else data)

    def log_message(self, *words):
        pass


@pytest.fixture
def repository(monkeypatch) -> Iterator[Repository]:
    with Repository() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("HEADRACE_MAVEN_REPOSITORY", f"http://user:hush@127.0.0.1:{server.server_port}/maven")
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def lock(tmp_path) -> Path:
    rows = [
        f'[[dependencies]]\ngroupId = "org.example"\nartifactId = "{name}"\nversion = "1"\n'
        f'sha256 = "{hashlib.sha256(data).hexdigest()}"\n'
        for name, data in FILES.items()
    ]
    path = tmp_path / "some.lock"
    path.write_text("\n".join(rows))
    return path


def held(cache: Path) -> set[str]:
    """Every file in the cache but the lock of the fetch."""
    return {path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_the_shipped_lock_names_kafka_with_a_sum_for_each_jar():
    """What is resolved stands in the lock: 46 jars, Kafka and the logger among them, each with a SHA-256."""
    locked = jars.read_lock()
    assert len(locked) == 46
    assert {jar.coordinate for jar in locked} >= set(jars.COORDINATES)
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in locked)
    assert len({jar.file for jar in locked}) == 46


def test_a_fetch_brings_every_jar_of_the_lock_and_says_how_far_it_is(repository, lock, tmp_path, capsys):
    """All jars are there afterwards, in the lock's order; progress went to standard error."""
    found = jars.classpath(tmp_path / "cache", lock)
    assert [path.read_bytes() for path in found] == list(FILES.values())
    assert "6 of 6 jars" in capsys.readouterr().err


def test_with_all_jars_there_nothing_is_asked_of_the_network(repository, lock, tmp_path):
    """The second start is offline."""
    jars.classpath(tmp_path / "cache", lock)
    repository.asked.clear()
    jars.classpath(tmp_path / "cache", lock)
    assert repository.asked == []


def test_an_interrupted_download_keeps_what_is_whole_and_fetches_only_the_rest(repository, lock, tmp_path):
    """A jar that ends half-way leaves no file; the next call asks for that one alone."""
    repository.broken = {"part-5"}
    with pytest.raises(BrokerError, match=r"org\.example:part-5:1 could not be fetched.*KAFKA_BOOTSTRAP_SERVERS"):
        jars.classpath(tmp_path / "cache", lock)
    kept = held(tmp_path / "cache")
    assert kept <= {f"part-{n}-1.jar" for n in range(5)}
    repository.broken = set()
    repository.asked.clear()
    jars.classpath(tmp_path / "cache", lock)
    asked = {path.split("/")[-1] for path in repository.asked if path.endswith(".jar")}
    assert asked == {f"part-{n}-1.jar" for n in range(6)} - kept


def test_what_a_killed_fetch_left_is_cleared_away(repository, lock, tmp_path):
    """Half files of a process that was killed do not stay, and are not taken for jars."""
    folder = tmp_path / "cache" / f"kafka-{jars.KAFKA_VERSION}" / "fetching-abc"
    folder.mkdir(parents=True)
    (folder / "part-1-1.jar").write_bytes(b"half")
    jars.classpath(tmp_path / "cache", lock)
    assert held(tmp_path / "cache") == {f"part-{n}-1.jar" for n in range(6)}
    assert not folder.exists()


def test_a_jar_that_was_changed_on_disk_is_deleted_and_named_with_both_sums(repository, lock, tmp_path):
    """Nothing runs that is not in the lock; the next call fetches it again."""
    changed = jars.classpath(tmp_path / "cache", lock)[2]
    changed.write_bytes(b"something else")
    with pytest.raises(BrokerError) as told:
        jars.classpath(tmp_path / "cache", lock)
    for part in ("org.example:part-2:1", hashlib.sha256(b"something else").hexdigest()):
        assert part in str(told.value)
    assert hashlib.sha256(FILES["part-2"]).hexdigest() in str(told.value)
    assert not changed.exists()
    assert jars.classpath(tmp_path / "cache", lock)[2].read_bytes() == FILES["part-2"]


def test_a_repository_that_serves_another_file_is_refused(repository, lock, tmp_path):
    """A wrong sum never reaches the classpath."""
    repository.files["part-3"] = b"evil"
    with pytest.raises(
        BrokerError, match=r"org\.example:part-3:1 is not the jar of the lock.*HEADRACE_MAVEN_REPOSITORY"
    ):
        jars.classpath(tmp_path / "cache", lock)
    assert "part-3-1.jar" not in held(tmp_path / "cache")


def test_a_full_disk_is_named_and_leaves_nothing_half_written(repository, lock, tmp_path, monkeypatch):
    """ENOSPC in the middle of a fetch: folder, free space and the way out; later it works."""
    replace, calls = Path.replace, []

    def full(path, target):
        calls.append(path)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(BrokerError, match=r"The disk that holds .* is full.*Free some space"):
        jars.classpath(tmp_path / "cache", lock)
    assert len(held(tmp_path / "cache")) == 2
    monkeypatch.setattr(Path, "replace", replace)
    assert len(jars.classpath(tmp_path / "cache", lock)) == 6


def test_a_repository_that_cannot_be_reached_is_named_without_its_password(lock, tmp_path, monkeypatch):
    """The error names the repository and both ways out, and keeps the secret."""
    monkeypatch.setenv("HEADRACE_MAVEN_REPOSITORY", "http://user:hush@127.0.0.1:9/maven")
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:9/maven.*HEADRACE_MAVEN_REPOSITORY") as told:
        jars.classpath(tmp_path / "cache", lock)
    assert "hush" not in str(told.value)


def test_two_at_once_fetch_each_jar_once(repository, lock, tmp_path):
    """The second waits for the first and finds everything there."""
    threads = [threading.Thread(target=jars.classpath, args=(tmp_path / "cache", lock)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = [path for path in repository.asked if path.endswith(".jar")]
    assert sorted(asked) == sorted(set(asked))
    assert len(asked) == 6


@pytest.mark.parametrize("text", ["", "[[dependencies]]\nartifactId = 1\n", "not toml ="])
def test_a_damaged_lock_is_said(tmp_path, text):
    """A lock that cannot be read stops everything, with its name."""
    path = tmp_path / "some.lock"
    path.write_text(text)
    with pytest.raises(BrokerError, match=r"some\.lock"):
        jars.read_lock(path)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HEADRACE_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/headrace"),
        ({"HOME": "/c"}, "/c/.cache/headrace"),
    ],
)
def test_the_cache_is_where_the_user_says(monkeypatch, environment, expected):
    """HEADRACE_CACHE, then XDG_CACHE_HOME, then the home folder."""
    for name in ("HEADRACE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert jars.cache_home() == Path(expected)
