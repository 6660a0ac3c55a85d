"""Every setting (name, type, default, help) and the project file `stead.toml`.

There is little to configure. Settings come from the environment (`STEAD_…`), then from `[settings]` in `stead.toml`,
then from the default. What belongs to a model stands in `stead.toml` under `[models.NAME]`.
"""

from stead.config.facts import FACTS, IMPORTANCES, checked_facts, fact_problem
from stead.config.projectfile import find_project, load_loosely, load_project
from stead.config.settings import PROCESSES, SETTINGS, Setting, Settings, load_settings
from stead.config.types import (
    FILE,
    LEVELS,
    LOSSES,
    ORDERS,
    ROLLOUTS,
    SIGNALS,
    GatesConfig,
    Level,
    ModelConfig,
    PolicyConfig,
    Project,
    RolloutConfig,
    ServeConfig,
    StageConfig,
    TrainConfig,
)
from stead.config.units import checked_name, duration_ms, size_text

__all__ = [
    "FACTS",
    "FILE",
    "IMPORTANCES",
    "LEVELS",
    "LOSSES",
    "ORDERS",
    "PROCESSES",
    "ROLLOUTS",
    "SETTINGS",
    "SIGNALS",
    "GatesConfig",
    "Level",
    "ModelConfig",
    "PolicyConfig",
    "Project",
    "RolloutConfig",
    "ServeConfig",
    "Setting",
    "Settings",
    "StageConfig",
    "TrainConfig",
    "checked_facts",
    "checked_name",
    "duration_ms",
    "fact_problem",
    "find_project",
    "load_loosely",
    "load_project",
    "load_settings",
    "size_text",
]
