"""savvi's sequential multinomial test as a guard: are failed requests split as requests are? One JSON line in, one out.

In: [[[failed of the stable arm, failed of the canary], one pair a look], one list a canary]. Out: the look that takes each back, or null.
"""

import json
import sys

import numpy as np
from savvi.multinomial import Multinomial

SHARE, ALPHA = 0.1, 0.05


def first(looks: list[list[int]]) -> int | None:
    test = Multinomial(ALPHA, np.array([1 - SHARE, SHARE]))
    for look, failed in enumerate(looks):
        test.update(np.array(failed))
        if test.calculate_p_value() < ALPHA and test.estimate[1] > SHARE:
            return look
    return None


print(json.dumps([first(looks) for looks in json.load(sys.stdin)]))
