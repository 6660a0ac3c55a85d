"""Whether what is here is what a lock says: the running interpreter, the environment as it was made, what the project asks for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stead.environments.comparison import installed
from stead.environments.locking import here
from stead.environments.types import Difference, Environment

COLUMNS = ("locked", "this interpreter", "made here", "the project asks")


def check(environment: Environment, *, made: Path | None = None, asked: Iterable[Requirement] = ()) -> list[Difference]:
    """Where a lock is contradicted; each row has the values of `COLUMNS`, None where nothing is known or nothing is asked.

    `made` is the interpreter of the environment as it was made on this machine, `asked` what the project requires now.
    What is installed and not in the lock is no contradiction.
    """
    python, platform = here()
    rows = [
        Difference(name, (locked, found, None, None), "fact")
        for name, locked, found in (
            ("python", environment.python, python),
            ("platform", environment.platform, platform),
        )
        if locked != found
    ]
    running = installed()
    inside = installed([str(site) for site in made.parent.parent.glob("lib/python3*/site-packages")]) if made else {}
    refused = dict(_refused(environment, asked))
    for name in sorted({*environment.packages, *refused}):
        locked = environment.packages.get(name)
        found = running.get(name, "missing")
        there = inside.get(name, "missing") if made else locked
        if (locked is not None and not locked == found == there) or name in refused:
            rows.append(
                Difference(
                    name,
                    (
                        locked,
                        found if locked is not None else None,
                        None if there == locked else there,
                        refused.get(name),
                    ),
                )
            )
    return rows


def _refused(environment: Environment, asked: Iterable[Requirement]) -> Iterable[tuple[str, str]]:
    """Requirements that the lock does not hold to, by package."""
    for requirement in asked:
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        name = canonicalize_name(requirement.name)
        locked = environment.packages.get(name)
        if locked is None or not (requirement.url or requirement.specifier.contains(locked, prereleases=True)):
            yield name, str(requirement.specifier) or "any"
