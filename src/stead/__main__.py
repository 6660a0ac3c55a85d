"""`stead`, and `python -m stead`, which is the same."""

import signal
import sys


def main() -> None:
    """The command line; Ctrl-C is heeded from here on, also while it is being loaded and while it ends."""
    try:
        from stead.cli import main as run

        run()
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
