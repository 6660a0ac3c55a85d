"""What numbers depend on: said in words that two machines can be compared by, and never with a secret."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import threadpoolctl

from stead.runtime import computing


def test_facts_name_processor_libraries_and_threads() -> None:
    found = computing.facts(
        {"OMP_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Haswell", "TZ": "UTC", "API_TOKEN": "geheim"}
    )
    assert found["OMP_NUM_THREADS"] == "1" and found["OPENBLAS_CORETYPE"] == "Haswell"
    assert "geheim" not in str(found)
    pools = threadpoolctl.threadpool_info()
    kernels = {pool["architecture"] for pool in pools if pool["user_api"] == "blas" and pool.get("architecture")}
    assert set(found["blas kernel"].split(", ")) == kernels
    assert found["cpu"] and found["interpreter"].endswith(sys.version.split()[0])


def test_nothing_is_loaded_for_it_and_numpy_tells_without_threadpoolctl() -> None:
    code = """if True:
    import sys
    from stead.runtime.computing import facts
    assert "blas" not in facts() and "numpy" not in sys.modules
    sys.modules["threadpoolctl"] = None
    import numpy
    print(facts()["blas"])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "blas" in done.stdout.lower(), done.stderr


def test_the_order_of_rows_has_a_digest_of_its_own() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0, 2.0, None], "name": ["a", "b", "b", None]})
    turned = frame.iloc[::-1].reset_index(drop=True)
    a, b = computing.rows(frame), computing.rows(turned)
    assert a["rows"] == b["rows"] and a["row order"] != b["row order"]
    assert computing.rows(frame) == a
    assert computing.rows(frame.iloc[:3])["rows"] != a["rows"]
    assert computing.rows(frame.rename(columns={"x": "z"}))["rows"] != a["rows"]
    assert computing.rows(pd.DataFrame({"x": [[1], [2]]})) == {}, "cells that cannot be hashed"
