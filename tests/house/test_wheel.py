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
    for folder, pattern in (("schemas/avro", "*.avsc"), ("schemas/avro", "catalogue.json"), ("headrace", "*.toml")):
        for path in (ROOT / folder).glob(pattern):
            assert path.relative_to(ROOT).as_posix() in names
    assert "headrace/kafka.lock" in names
