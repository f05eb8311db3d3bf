"""What is installed is ours alone, and whole."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {"schemas", "streams", "topologies", "replay", "headrace"}


def test_the_wheel_holds_five_packages_and_their_data(tmp_path):
    """Schemas, rules and the lock file travel with the code; tests and benchmarks stay at home."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == PACKAGES
    data = ("schemas/avro/*.avsc", "schemas/avro/catalogue.json", "headrace/*.toml", "headrace/console/static/**/*.*")
    for pattern in data:
        found = [path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)]
        assert found, pattern
        assert set(found) <= set(names), pattern
    assert "headrace/kafka.lock" in names
