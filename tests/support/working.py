"""Jobs that a test does itself, as one agent would: the libraries of a model are loaded once for all jobs in one environment."""

from __future__ import annotations

import atexit

from stead import jobs
from stead.config import load_settings
from stead.processes.handlers import handlers
from stead.store import Store

hosts = jobs.Hosts()
atexit.register(hosts.close)


def work(store: Store, job_id: str | None = None, *, owner: str = "me") -> jobs.Job | None:
    """Do one job, the next one that is due or the one that is named."""
    done = jobs.work(store, handlers(load_settings()), owner=owner, job_id=job_id, hosts=hosts)
    hosts.tidy()
    return done
