"""The web application of the page *Adnomaly*, mounted below /adnomaly by Airflow's API server."""

from importlib import metadata
from pathlib import Path
from typing import Final
from urllib.parse import quote

import plotly
import psycopg
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from adnomaly.errors import DecisionOutdated, InvalidDecision, Unavailable
from adnomaly_airflow.console.routes import backends, router
from adnomaly_airflow.console.security import READS, SmallBodies

PREFIX: Final = "/adnomaly"
STATIC: Final = Path(__file__).parent / "static"
PLOTLY: Final = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
PLOTLY_URL: Final = f"/static/plotly-{metadata.version('plotly')}.min.js"
POLICY: Final = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline';"
    " frame-ancestors 'self'"
)
VIEWS: Final = ("/", "/incidents", "/model")

app = FastAPI(title="Adnomaly", docs_url=None, redoc_url=None, openapi_url=None)
app.add_middleware(SmallBodies)
app.include_router(router)


@app.get(PLOTLY_URL)
def plotly_library() -> FileResponse:
    """The installed plotly.js; the page fetches nothing from other hosts."""
    return FileResponse(
        PLOTLY,
        media_type="text/javascript",
        headers={"cache-control": "public, max-age=31536000, immutable"},
    )


def page() -> Response:
    """One document for every view; its script reads the address."""
    text = (STATIC / "index.html").read_text().replace("{plotly}", PREFIX + PLOTLY_URL)
    return Response(
        text,
        media_type="text/html",
        headers={"content-security-policy": POLICY, "cache-control": "no-cache"},
    )


for view in VIEWS:
    app.get(view, dependencies=READS)(page)

app.mount("/static", StaticFiles(directory=STATIC))

# Import the collector's libraries while the API server starts, not during the first request.
PRELOADED: Final = backends().collector


@app.exception_handler(HTTPException)
def http_error(request: Request, error: HTTPException) -> Response:
    """Redirect a view without login to the login page and back."""
    at = request.url.path.removeprefix(PREFIX)
    if error.status_code == 401 and request.method == "GET" and at in VIEWS:
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/auth/login?next={quote(PREFIX + at + query, safe='/')}")
    return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)


@app.exception_handler(Unavailable)
def unavailable(_: Request, error: Unavailable) -> Response:
    """A backend does not answer; the message names it."""
    return JSONResponse({"detail": str(error)}, 424)


@app.exception_handler(InvalidDecision)
def invalid(_: Request, error: InvalidDecision) -> Response:
    return JSONResponse({"detail": str(error)}, 422)


@app.exception_handler(psycopg.DataError)
def invalid_text(_: Request, error: psycopg.DataError) -> Response:
    """Text that PostgreSQL cannot store, such as a NUL character."""
    return JSONResponse({"detail": str(error).splitlines()[0]}, 422)


@app.exception_handler(DecisionOutdated)
def outdated(_: Request, error: DecisionOutdated) -> Response:
    return JSONResponse({"detail": str(error)}, 409)
