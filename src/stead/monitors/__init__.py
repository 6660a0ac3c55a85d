"""Monitors: what a live version is held against, day by day of event time, and incidents that say what is wrong.

`observe` takes the days that are over through the monitors (realised loss, the loss to expect, requests that fail, data breaks, units, drift, outputs, volume); what
comes late restates them. A monitor is a fold over days in `folding`; the loss to expect without labels is one more.
Incidents are one by cause, a batch that broke its contract among them, told to people by webhook and command; drift alone is a note.
"""

from stead.monitors.batches import BatchNews, batch_news, observe_batches
from stead.monitors.incidents import (
    get_incident,
    list_deliveries,
    list_incidents,
    open_incident,
    resolve_incident,
    take_report,
)
from stead.monitors.reading import monitor_days, monitoring
from stead.monitors.reports import found_first
from stead.monitors.routes import deliver, ping
from stead.monitors.types import (
    MONITORS,
    ColumnProfile,
    ColumnWeek,
    Delivery,
    Expected,
    Incident,
    LossDay,
    ModelDrift,
    MonitorDay,
    Monitoring,
    MonitorView,
)
from stead.monitors.watching import due, observe
from stead.monitors.weeks import column_profile, drift_by_week, looks

OPERATIONS = {
    "read": (
        "column_profile",
        "drift_by_week",
        "get_incident",
        "list_deliveries",
        "list_incidents",
        "monitor_days",
        "monitoring",
    ),
    "write": ("open_incident", "resolve_incident"),
}

__all__ = [
    "MONITORS",
    "OPERATIONS",
    "BatchNews",
    "ColumnProfile",
    "ColumnWeek",
    "Delivery",
    "Expected",
    "Incident",
    "LossDay",
    "ModelDrift",
    "MonitorDay",
    "MonitorView",
    "Monitoring",
    "batch_news",
    "column_profile",
    "deliver",
    "drift_by_week",
    "due",
    "found_first",
    "get_incident",
    "list_deliveries",
    "list_incidents",
    "looks",
    "monitor_days",
    "monitoring",
    "observe",
    "observe_batches",
    "open_incident",
    "ping",
    "resolve_incident",
    "take_report",
]
