"""Operations by name: the table, the HTTP API that FastAPI makes of it, and the caller that works embedded and remote."""

from stead.api.caller import Caller, Embedded, Remote, connect

__all__ = ["Caller", "Embedded", "Remote", "connect"]
