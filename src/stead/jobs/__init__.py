"""Durable queue and clock: leases, heartbeats, fencing, retries with backoff, time-outs, cancel, logs that can be followed.

A job is done at least once. Each claim raises its fence, and every write of a keeper checks it, so a zombie cannot write.
"""

from stead.jobs.children import Hosts
from stead.jobs.clocks import (
    clock_holders,
    clocks_asked,
    held_at,
    held_clocks,
    held_in,
    hold_clock,
    model_now,
    move_clock,
    release_clock,
    settle_clock,
    settled_in,
    take_up_clocks,
)
from stead.jobs.keeper import Handler, Inside, Keeper, work
from stead.jobs.limits import Limits
from stead.jobs.operations import (
    JobCancelled,
    LeaseLost,
    Wish,
    agent_alive,
    agent_beat,
    agent_gone,
    cancel_job,
    enqueue,
    enqueue_in,
    finish_in,
    get_job,
    job_log,
    list_agents,
    list_jobs,
    loop_age,
    open_in,
    open_jobs,
    retry_job,
)
from stead.jobs.types import ENDED, Agent, Job, Progress

OPERATIONS = {
    "read": (
        "agent_alive",
        "get_job",
        "held_at",
        "job_log",
        "list_agents",
        "list_jobs",
        "loop_age",
        "model_now",
        "open_jobs",
    ),
    "write": ("cancel_job", "hold_clock", "move_clock", "release_clock", "retry_job"),
}

__all__ = [
    "ENDED",
    "OPERATIONS",
    "Agent",
    "Handler",
    "Hosts",
    "Inside",
    "Job",
    "JobCancelled",
    "Keeper",
    "LeaseLost",
    "Limits",
    "Progress",
    "Wish",
    "agent_alive",
    "agent_beat",
    "agent_gone",
    "cancel_job",
    "clock_holders",
    "clocks_asked",
    "enqueue",
    "enqueue_in",
    "finish_in",
    "get_job",
    "held_at",
    "held_clocks",
    "held_in",
    "hold_clock",
    "job_log",
    "list_agents",
    "list_jobs",
    "loop_age",
    "model_now",
    "move_clock",
    "open_in",
    "open_jobs",
    "release_clock",
    "retry_job",
    "settle_clock",
    "settled_in",
    "take_up_clocks",
    "work",
]
