"""Container images of a version, written without a daemon, the same bytes each time: base, locked packages, runtime, model.

`build` writes one into an OCI layout; `export`, `Engine.load`, `push` and `write_context` take it from there to a folder or
file, into docker or podman, to a registry, or as a Dockerfile. `make_base` makes a base where no registry is reachable.
"""

from stead.images.building import Contents, build, of_environment, of_version, pool
from stead.images.containers import Container, Containers
from stead.images.debian import make as make_base
from stead.images.dockerfile import check_context, write_context
from stead.images.engines import Engine, engine
from stead.images.keeping import prune, unused
from stead.images.layout import Layout, check_target, export
from stead.images.reading import OfStore, Reader
from stead.images.registry import parse_tag, push
from stead.images.types import PLATFORMS, Image, Platform, this_platform

__all__ = [
    "PLATFORMS",
    "Container",
    "Containers",
    "Contents",
    "Engine",
    "Image",
    "Layout",
    "OfStore",
    "Platform",
    "Reader",
    "build",
    "check_context",
    "check_target",
    "engine",
    "export",
    "make_base",
    "of_environment",
    "of_version",
    "parse_tag",
    "pool",
    "prune",
    "push",
    "this_platform",
    "unused",
    "write_context",
]
