"""Where the parts of an image are read from: this machine's store, or a server through its client."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from stead import environments, models
from stead.environments import Environment, Wheel
from stead.models import LoggedModel, Version
from stead.store import Store


class Reader(Protocol):
    """What building an image asks for."""

    def version(self, ref: str) -> Version: ...

    def logged_model(self, id: str) -> LoggedModel: ...  # noqa: A002

    def environment(self, digest: str) -> Environment: ...

    def wheels(self, environment: Environment) -> list[Wheel]:
        """Those of its wheels that the store has: built there, or kept."""

    def fetch(self, digest: str, target: Path) -> None:
        """Write a blob to a file."""


class OfStore:
    """Reads from a store that is opened here."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def version(self, ref: str) -> Version:
        return models.get_version(self._store, ref)

    def logged_model(self, id: str) -> LoggedModel:  # noqa: A002
        return models.get_logged_model(self._store, id)

    def environment(self, digest: str) -> Environment:
        return environments.get(self._store, digest)

    def wheels(self, environment: Environment) -> list[Wheel]:
        return [*environment.wheels, *environments.vendored(self._store, environment)]

    def fetch(self, digest: str, target: Path) -> None:
        self._store.blobs.fetch(digest, target)
