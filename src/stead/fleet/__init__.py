"""The loop that closes the circle: it looks at every model, lets its policy decide, and moves on what is under way."""

from stead.fleet.loop import tick

__all__ = ["tick"]
