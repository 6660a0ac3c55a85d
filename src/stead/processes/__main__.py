"""`python -m stead.processes NAME`: one of the processes that `stead up` starts."""

import importlib
import sys

from stead.runtime import loading


def main() -> int:
    """Load the process and run it; it says itself when all that it needs is loaded."""
    loading.begin()
    process = importlib.import_module(f"stead.processes.{sys.argv.pop(1)}")
    return int(process.main())


if __name__ == "__main__":
    sys.exit(main())
