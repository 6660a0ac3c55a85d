"""The page behind a model's link for users: somebody without an account says what is wrong. It tells nothing of the system."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from stead import monitors
from stead.api import tokens
from stead.errors import Conflict, InvalidInput
from stead.monitors.incidents import LONGEST
from stead.monitors.reports import LONGEST_NAME, known_prediction
from stead.runtime.clock import to_ms
from stead.store import Store
from stead.web.frame import HEADERS, form_of, fragment

THANKS = "Thank you. Your report was kept, and people are told."
KNOWN = "Thank you. The same is known already, and people are at it."
FULL = "Thank you. So many reports are open already that this one was not kept; people are at them."


def ask(request: Request) -> Response:
    """`/report/{model}/{key}`"""
    if not _known(request):
        return lost(404)
    return _page(request, {"prediction": request.query_params.get("prediction", "")})


async def tell(request: Request) -> Response:
    """`POST /report/{model}/{key}`: keeps the report as an incident, or says what is wrong with it."""
    if not await run_in_threadpool(_known, request):
        return lost(404)
    form = await form_of(request)
    store: Store = request.app.state.store
    try:
        since = form.get("since", "").strip()
        await run_in_threadpool(
            monitors.take_report,
            store,
            request.path_params["model"],
            form.get("what", ""),
            name=form.get("name", ""),
            since=to_ms(since) if since else None,
            prediction=form.get("prediction"),
        )
    except Conflict as error:
        full = error.code == "reports-full"
        return _page(request, {}, thanks=FULL if full else KNOWN, status=429 if full else 200)
    except InvalidInput as error:
        return _page(request, form, wrong=_wrong(error), status=400)
    return _page(request, {}, thanks=THANKS)


def lost(status: int) -> Response:
    """What everything else under this address is answered with."""
    return HTMLResponse(fragment("report.html", lost=True), status_code=status, headers=HEADERS)


def _known(request: Request) -> bool:
    return tokens.may_report(request.app.state.store, request.path_params["model"], request.path_params["key"])


def _wrong(error: InvalidInput) -> tuple[str, str]:
    """The field, and what is wrong with it."""
    if error.code == "summary-invalid":
        return "what", f"Say in a few words what is wrong, in {LONGEST} characters at most."
    if error.code in ("time-invalid", "time-ahead"):
        return "since", "Name a day that has come, or leave it empty."
    return "name", f"A name has {LONGEST_NAME} characters at most, or leave it empty."


def _page(
    request: Request,
    form: dict[str, str],
    *,
    wrong: tuple[str, str] = ("", ""),
    thanks: str = "",
    status: int = 200,
) -> Response:
    text = fragment(
        "report.html",
        lost=False,
        model=request.path_params["model"],
        form=form | {"prediction": known_prediction(form.get("prediction")) or ""},
        wrong=wrong,
        thanks=thanks,
        longest=LONGEST,
        longest_name=LONGEST_NAME,
    )
    return HTMLResponse(text, status_code=status, headers=HEADERS)


ROUTES = [("/report/{model}/{key}", ask, ["GET"]), ("/report/{model}/{key}", tell, ["POST"])]
