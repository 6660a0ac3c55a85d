"""river's detectors on daily losses, as multiples of the reference's mean, with its defaults. One JSON line in, one out.

In: {"reference": days that no page counts on, "streams": [losses by day, …]}. Out: by detector, the first day after the reference on which
each stream's loss is said to have changed, or null.
"""

import json
import sys

from river.drift import ADWIN, PageHinkley


def first(detector: ADWIN | PageHinkley, losses: list[float], reference: int) -> int | None:
    usual = sum(losses[:reference]) / reference
    for day, loss in enumerate(losses, 1):
        detector.update(loss / usual)
        if day > reference and detector.drift_detected:
            return day - reference
    return None


asked = json.load(sys.stdin)
print(
    json.dumps(
        {
            each.__name__: [first(each(), losses, asked["reference"]) for losses in asked["streams"]]
            for each in (ADWIN, PageHinkley)
        }
    )
)
