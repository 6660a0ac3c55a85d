"""Gateway, workers, routes (which version answers with which share), protocols.

A route is data: changing it is the whole of a swap. Each gateway follows the routes, keeps a pool of workers for every
environment, loads a new version beside the old one, moves the split, and lets the old one go when its last request is answered.
The gateway itself is in `stead.serving.gateway`, loaded by the process that runs one.
"""

from stead.serving.operations import (
    gateway_secret,
    gateways,
    get_route,
    list_routes,
    read_revision,
    route_in,
    served,
    set_route,
    wait_applied,
    wait_loaded,
)
from stead.serving.types import Arm, Gateway, Route, Served

OPERATIONS = {"read": ("gateways", "get_route", "list_routes", "read_revision")}
"""What can be called by name, by role."""

__all__ = [
    "OPERATIONS",
    "Arm",
    "Gateway",
    "Route",
    "Served",
    "gateway_secret",
    "gateways",
    "get_route",
    "list_routes",
    "read_revision",
    "route_in",
    "served",
    "set_route",
    "wait_applied",
    "wait_loaded",
]
