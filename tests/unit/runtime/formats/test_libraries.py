"""Which library holds a module is what the standard library says, found sooner."""

from __future__ import annotations

from importlib import metadata

from stead.runtime.formats.libraries import _homes, used_by


def test_every_module_has_the_libraries_that_the_standard_library_tells() -> None:
    homes = _homes(())
    told = metadata.packages_distributions()
    assert {"numpy", "sklearn", "six"} <= told.keys()
    assert {module: homes.get(module) for module in told} == {module: set(names) for module, names in told.items()}


def test_a_model_uses_libraries_and_what_they_require() -> None:
    direct, found = used_by(["sklearn.linear_model", "numpy", "json", "nowhere"])
    assert direct == ["numpy", "scikit-learn"]
    assert (
        found == {name: metadata.version(name) for name in found}
        and {"scipy", "joblib", "threadpoolctl"} <= found.keys()
    )
