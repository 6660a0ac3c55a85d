"""Deployments: how a version takes over a model's route, and how it is taken back.

`deploy` writes a wish and a job; `run_deployment` is the job: a stored state machine that any agent can go on with.
`rollback` to the version that is kept warm is one transaction and a moment. `withdraw` takes a model out of service.
`record_outside` keeps what people say of deployments that stead did not make.
"""

from stead.deployments.canary import observe
from stead.deployments.drilling import drill_rollback, run_drill
from stead.deployments.judging import judge, judged_now, judged_wrong, take_back
from stead.deployments.operations import (
    canaries,
    cancel_deployment,
    deploy,
    get_deployment,
    list_deployments,
    live_deployment,
    request_in,
    rollback,
    under_way,
    withdraw,
)
from stead.deployments.outside import forget_outside, list_outside, record_outside
from stead.deployments.rollout import run_deployment
from stead.deployments.types import UNDER_WAY, WAS_LIVE, Deployment, Outside, RollbackDrill, Step

OPERATIONS = {
    "read": ("canaries", "get_deployment", "list_deployments", "list_outside", "live_deployment", "under_way"),
    "write": (
        "deploy",
        "rollback",
        "cancel_deployment",
        "drill_rollback",
        "withdraw",
        "record_outside",
        "forget_outside",
    ),
}
GUARDED = {"deploy": {"override": "approve"}}
"""Arguments that take a higher role than their operation."""

__all__ = [
    "GUARDED",
    "OPERATIONS",
    "UNDER_WAY",
    "WAS_LIVE",
    "Deployment",
    "Outside",
    "RollbackDrill",
    "Step",
    "canaries",
    "cancel_deployment",
    "deploy",
    "drill_rollback",
    "forget_outside",
    "get_deployment",
    "judge",
    "judged_now",
    "judged_wrong",
    "list_deployments",
    "list_outside",
    "live_deployment",
    "observe",
    "record_outside",
    "request_in",
    "rollback",
    "run_deployment",
    "run_drill",
    "take_back",
    "under_way",
    "withdraw",
]
