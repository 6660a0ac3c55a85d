"""Gateway, workers, routes (which version answers with which share), protocols.

A route is data: changing it is the whole of a swap. Each gateway follows the routes, keeps a pool of workers for every
environment, loads a new version beside the old one, moves the split, and lets the old one go when its last request is answered.
The gateway itself is in `stead.serving.gateway`, loaded by the process that runs one.
"""

from stead.serving.fast import (
    READY,
    fast_after,
    fast_path_in,
    get_fast_path,
    keep_fast_path,
    may_be_fast,
    place,
    served,
    set_fast,
    set_fast_in,
)
from stead.serving.operations import (
    gateway_secret,
    gateways,
    get_route,
    list_routes,
    read_revision,
    route_in,
    set_route,
    wait_applied,
    wait_loaded,
)
from stead.serving.operations import served as usual
from stead.serving.types import Arm, FastPath, Gateway, Route, Served, standing

OPERATIONS = {
    "read": ("gateways", "get_fast_path", "get_route", "list_routes", "read_revision"),
    "approve": ("set_fast",),
}
"""What can be called by name, by role."""

__all__ = [
    "OPERATIONS",
    "READY",
    "Arm",
    "FastPath",
    "Gateway",
    "Route",
    "Served",
    "fast_after",
    "fast_path_in",
    "gateway_secret",
    "gateways",
    "get_fast_path",
    "get_route",
    "keep_fast_path",
    "list_routes",
    "may_be_fast",
    "place",
    "read_revision",
    "route_in",
    "served",
    "set_fast",
    "set_fast_in",
    "set_route",
    "standing",
    "usual",
    "wait_applied",
    "wait_loaded",
]
