"""A model, its versions, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelFile:
    digest: str
    bytes: int


@dataclass(frozen=True)
class LoggedModel:
    """A model as it was logged, before or without a place in the registry: a folder in the MLmodel layout, by content."""

    id: str
    name: str
    run_id: str | None
    status: str
    flavor: str
    """`sklearn`, `xgboost`, `lightgbm`, `python_function`."""
    files: dict[str, ModelFile]
    signature: dict[str, Any] | None
    """{"inputs": [{"name", "type", "required"}], "outputs": […]} with MLflow's type names."""
    environment: str
    code: str | None
    metrics: dict[str, float]
    """What it scored when it was evaluated: `holdout_random`, `holdout_time`, by the model's loss."""
    info: dict[str, Any]
    """Marks such as {"pickle": true}, rows trained on (`trained_on`), variables of its training (`train_env`), golden rows."""
    created_at: int


@dataclass(frozen=True)
class Version:
    model: str
    version: int
    logged_model: str
    run_id: str | None
    description: str
    serving_environment: str
    serving_env: dict[str, str]
    created_by: str
    created_at: int
    event_time: int | None
    serving_image: bool = False
    """Whether it serves from containers of its image."""
    aliases: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def ref(self) -> str:
        return f"{self.model}@{self.version}"


@dataclass(frozen=True)
class Model:
    name: str
    description: str
    level: str
    loss: str
    settings: dict[str, Any]
    """target, time, label_delay, dataset: what stead.toml says; owner, importance, loss_value, currency."""
    created_at: int
    updated_at: int
    aliases: dict[str, int] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    versions: int = 0

    @property
    def owner(self) -> str | None:
        """Who answers for it; None where nobody is named."""
        return self.settings.get("owner")

    @property
    def importance(self) -> str:
        """`low`, `normal` or `high`."""
        return self.settings.get("importance") or "normal"

    @property
    def loss_value(self) -> float | None:
        """Money that one unit of the summed loss costs: a day costs this times its `loss_sum`. None where nobody said."""
        return self.settings.get("loss_value")

    @property
    def currency(self) -> str | None:
        """What `loss_value` is in, by ISO 4217."""
        return self.settings.get("currency")


@dataclass(frozen=True)
class Signature:
    """That somebody vouches for a version's files."""

    id: int
    model: str
    version: int
    bundle: str
    """Blob: the Sigstore bundle."""
    key: str
    """SHA-256 of the public key that it names."""
    by: str
    at: int


@dataclass(frozen=True)
class Verified:
    """Whether a version's files are signed by one of the keys that were asked for."""

    ref: str
    valid: bool
    key: str
    """SHA-256 of the public key whose signature holds; empty where none does."""
    said: str


@dataclass(frozen=True)
class Edge:
    """One arrow of the lineage: `source` went into `target`."""

    source: str
    target: str
    relation: str
    at: int
