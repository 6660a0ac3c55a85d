"""Log in with a token, where the server wants one: it becomes a cookie that no script can read."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from stead.api import tokens
from stead.errors import Forbidden, SteadError
from stead.store import Store
from stead.web.frame import HEADERS, form_of, fragment

COOKIE = "stead_token"
MONTH_S = 30 * 86_400


def ask(request: Request) -> Response:
    """`/login`"""
    return _page(None, 200)


async def enter(request: Request) -> Response:
    """`POST /login`: takes the token, or says why not."""
    form = await form_of(request)
    secret = form.get("token", "").strip()
    store: Store = request.app.state.store
    try:
        if not secret.isascii():
            raise Forbidden("token-invalid", "this token is not known or was revoked")
        await run_in_threadpool(tokens.authenticate, store, secret)
    except SteadError as error:
        return await run_in_threadpool(_page, error, error.http_status)
    response = RedirectResponse("/", status_code=303)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, secret, max_age=MONTH_S, httponly=True, samesite="strict", secure=secure)
    return response


def leave(request: Request) -> Response:
    """`POST /logout`"""
    response = RedirectResponse("/login", status_code=303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


def _page(error: SteadError | None, status: int) -> Response:
    return HTMLResponse(fragment("login.html", error=error), status_code=status, headers=HEADERS)


ROUTES = [("/login", ask, ["GET"]), ("/login", enter, ["POST"]), ("/logout", leave, ["POST"])]
