"""The loop that closes the circle: it looks at every model, lets its policy decide, and moves on what is under way."""

from stead.fleet.loop import Followed, Turn, follows, tick
from stead.fleet.sampling import sample_reproductions

OPERATIONS = {"read": ("follows",)}

__all__ = ["OPERATIONS", "Followed", "Turn", "follows", "sample_reproductions", "tick"]
