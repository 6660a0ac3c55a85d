"""Every error that stead raises on purpose.

    SteadError
    ├── InvalidInput     what was asked makes no sense                 exit 2, HTTP 400
    ├── NotFound         what was named does not exist                 exit 3, HTTP 404
    ├── Refused          a gate did not pass                           exit 4, HTTP 409
    ├── Conflict         it exists already, or moved meanwhile         exit 1, HTTP 409
    ├── Forbidden        the token's role does not allow it            exit 1, HTTP 403
    ├── Unreachable      a process or service does not answer          exit 5, HTTP 503
    └── Failed           it was tried and did not work                 exit 1, HTTP 500

An error has a code (stable, for programs and for looking it up), a message that says what happened to what, and a hint:
the next step, where possible a command to paste.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar


class SteadError(Exception):
    """Base of all errors raised on purpose.

    >>> error = NotFound("model-unknown", "there is no model 'demnad'", hint="did you mean 'demand'?")
    >>> error.code, error.exit_code, error.http_status
    ('model-unknown', 3, 404)
    >>> print(error)
    there is no model 'demnad'
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, code: str, message: str, *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.details = details
        if hint:
            self.add_note(f"hint: {hint}")  # where Python or a notebook shows the traceback

    def as_dict(self) -> dict[str, Any]:
        """The one documented shape of an error in JSON; a narrower class is told as the documented one above it.

        >>> class TooLong(InvalidInput):
        ...     pass
        >>> TooLong("too-long", "five at most").as_dict()
        {'error': {'kind': 'InvalidInput', 'code': 'too-long', 'message': 'five at most', 'hint': None}}
        """
        kind = next((base.__name__ for base in type(self).__mro__ if base.__name__ in KINDS), "Failed")
        body: dict[str, Any] = {"kind": kind, "code": self.code, "message": self.message}
        body["hint"] = self.hint
        if self.details:
            body["details"] = self.details
        return {"error": body}


class InvalidInput(SteadError):
    exit_code = 2
    http_status = 400


class NotFound(SteadError):
    exit_code = 3
    http_status = 404


class Refused(SteadError):
    exit_code = 4
    http_status = 409


class Conflict(SteadError):
    http_status = 409


class Forbidden(SteadError):
    http_status = 403


class Unreachable(SteadError):
    exit_code = 5
    http_status = 503


class Failed(SteadError):
    pass


KINDS: dict[str, type[SteadError]] = {
    kind.__name__: kind for kind in (InvalidInput, NotFound, Refused, Conflict, Forbidden, Unreachable, Failed)
}


def from_dict(body: dict[str, Any]) -> SteadError:
    """The error that `as_dict` described, so that a remote caller catches the same classes as a local one."""
    error = body["error"]
    kind = KINDS.get(error.get("kind", ""), Failed)
    return kind(error["code"], error["message"], hint=error.get("hint"), **error.get("details", {}))


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A hint for a mistyped name, or None where nothing known is near.

    >>> did_you_mean("demnad", ["demand", "iris"])
    "did you mean 'demand'?"
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else None
