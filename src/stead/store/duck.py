"""DuckDB in memory, for questions over Parquet files and Arrow tables: it loads nothing and fetches nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stead.errors import SteadError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_numbers = count()


@contextmanager
def duckdb_for(failed: Callable[[Exception], SteadError]) -> Iterator[DuckDBPyConnection]:
    """An empty database of its own. Raises what `failed` makes of the error of a query."""
    import duckdb

    home, name = _duckdb(), f"m{next(_numbers)}"
    con = home.cursor()
    try:
        con.execute(f"attach ':memory:' as {name}")
        con.execute(f"use {name}")
        yield con
    except duckdb.Error as error:
        raise failed(error) from error
    finally:
        con.close()
        with home.cursor() as ended:
            ended.execute(f"detach database if exists {name}")


@cache
def _duckdb() -> DuckDBPyConnection:
    """The one instance of this process: to start one takes ten times as long as most queries. What is larger than its memory goes to a folder of its own."""
    import duckdb

    options: dict[str, Any] = {
        "threads": 2,
        "memory_limit": "1GB",
        "temp_directory": str(Path(tempfile.gettempdir()) / f"stead-duckdb-{os.getpid()}"),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    return duckdb.connect(config=options)
