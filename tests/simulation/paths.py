"""Where the simulation's modules, the tests' helpers and the packages are: imported first."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

for folder in (ROOT, ROOT / "tests" / "helpers", Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
