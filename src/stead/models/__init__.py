"""The registry: logged models by content, versions with aliases and tags, and the lineage that led to them."""

from stead.models.lineage import arrows_of, link
from stead.models.logging import get_logged_model, list_logged_models, log_files, log_model, materialise
from stead.models.registry import (
    archive_version,
    delete_alias,
    delete_alias_in,
    describe,
    get_model,
    get_version,
    list_models,
    list_versions,
    metrics_of,
    policy_of,
    register,
    rollout_of,
    set_alias,
    set_alias_in,
    set_level_in,
    set_settings_in,
    set_tag,
)
from stead.models.types import Edge, LoggedModel, Model, ModelFile, Version

OPERATIONS = {
    "read": (
        "get_logged_model",
        "get_model",
        "get_version",
        "list_logged_models",
        "list_models",
        "list_versions",
    ),
    "write": ("archive_version", "delete_alias", "describe", "log_files", "register", "set_alias", "set_tag"),
}

__all__ = [
    "OPERATIONS",
    "Edge",
    "LoggedModel",
    "Model",
    "ModelFile",
    "Version",
    "archive_version",
    "arrows_of",
    "delete_alias",
    "delete_alias_in",
    "describe",
    "get_logged_model",
    "get_model",
    "get_version",
    "link",
    "list_logged_models",
    "list_models",
    "list_versions",
    "log_files",
    "log_model",
    "materialise",
    "metrics_of",
    "policy_of",
    "register",
    "rollout_of",
    "set_alias",
    "set_alias_in",
    "set_level_in",
    "set_settings_in",
    "set_tag",
]
