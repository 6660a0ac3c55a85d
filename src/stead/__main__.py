"""`stead`, and `python -m stead`, which is the same."""

import gc
import signal
import sys


def main() -> None:
    """The command line; Ctrl-C is heeded from here on, also while it is being loaded and while it ends."""
    try:
        from stead.runtime import loading

        loading.begin()  # what is loaded or made by a command is needed to its end
        from stead.cli import main as run

        run()
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        gc.freeze()  # an interpreter that ends looks for cycles in all that was loaded: a seventh of a short command's time


if __name__ == "__main__":
    main()
