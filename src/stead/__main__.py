"""`python -m stead` is `stead`."""

from stead.cli import main

main()
