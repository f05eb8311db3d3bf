"""The wheel, installed by pip into a fresh environment far from the checkout, passes the rule tests: `make wheel`.

Needs the package index. Exit codes: 0 passed, 1 failed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from time import monotonic

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "streams", "topologies", "replay", "headrace")
TOOLS = ("pytest", "hypothesis", "avro", "babel")
"""What the tests below import, in the versions that the checkout uses."""
TESTS = ("schemas", "streams", "promises")
HELP = (["--version"], ["--help"], ["up", "--help"], ["run", "--help"], ["publish", "--help"])
CONFIG = """[pytest]
addopts = --import-mode=importlib --strict-markers -q -p no:cacheprovider
pythonpath = tests/helpers
filterwarnings = error
markers = broker: needs the real local Kafka
"""
CHECK = f"""
import importlib, importlib.metadata, sysconfig
from pathlib import Path
home = Path(sysconfig.get_paths()["purelib"]).resolve()
owners = importlib.metadata.packages_distributions()
for name in {PACKAGES!r}:
    found = Path(importlib.import_module(name).__file__).resolve()
    assert found.is_relative_to(home), f"{{name}} comes from {{found}}, not from {{home}}"
    assert owners[name] == ["headrace"], f"{{name}} belongs to {{owners[name]}}"
"""


def run(*words: object, cwd: Path) -> None:
    """Runs a command to its good end, in an environment that knows nothing of the checkout."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HEADRACE_", "KAFKA_", "VIRTUAL_ENV"))}
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=env, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(
            f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        )
    tail = "".join(done.stdout.strip().splitlines()[-1:]) if "pytest" in words else ""
    print(" ".join(["ok ", *(Path(str(word)).name for word in words[:4] if "\n" not in str(word)), tail]).rstrip())


def tools() -> list[str]:
    """The tools with their versions, as pyproject.toml has them."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    return [line for line in extras if line.split("~")[0].split("=")[0] in TOOLS]


def main() -> None:
    """Builds, installs, checks where everything comes from, and runs the tests."""
    begun = monotonic()
    with tempfile.TemporaryDirectory(prefix="headrace-wheel-") as folder:
        there = Path(folder)
        run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", there / "dist", cwd=ROOT)
        [wheel] = (there / "dist").glob("*.whl")
        run(sys.executable, "-m", "venv", there / "env", cwd=there)
        python = there / "env" / "bin" / "python"
        run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel, *tools(), cwd=there)
        for name in ("helpers", *TESTS):
            shutil.copytree(ROOT / "tests" / name, there / "tests" / name, ignore=shutil.ignore_patterns("__pycache__"))
        (there / "pytest.ini").write_text(CONFIG)
        run(python, "-I", "-c", CHECK, cwd=there)
        for words in HELP:
            run(there / "env" / "bin" / "headrace", *words, cwd=there)
        run(python, "-I", "-m", "pytest", "-m", "not broker", *(f"tests/{name}" for name in TESTS), cwd=there)
    print(f"the installed wheel is whole, {monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
