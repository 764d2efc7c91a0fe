"""The one plugin file: the page Adnomaly, links to other consoles, and the safe login cookie.

Airflow executes every .py of this folder under its bare file name. All other code is in the package
`adnomaly_airflow`, which .airflowignore excludes.
"""

from adnomaly_airflow.cookies import HttpOnlyCookieMiddleware
from airflow.plugins_manager import AirflowPlugin

from adnomaly.settings import load_settings

_SETTINGS = load_settings()


def _link(name: str, url: str) -> dict[str, str]:
    """A menu entry that opens a new tab."""
    return {"name": name, "href": url, "destination": "nav", "category": "browse"}


class _OnlyWhereServed:
    """The page's application, imported when asked for: only the API server pays the seconds."""

    def __get__(self, plugin: object, owner: type) -> list[dict[str, object]]:
        from adnomaly_airflow.console.app import PREFIX, app

        return [{"app": app, "url_prefix": PREFIX, "name": "adnomaly"}]


class AdnomalyPlugin(AirflowPlugin):
    """What Airflow asks of us."""

    name = "adnomaly"
    fastapi_apps = _OnlyWhereServed()
    external_views = [
        {
            "name": "Adnomaly",
            "href": "/adnomaly/",
            "destination": "nav",
            "url_route": "adnomaly",
            "nav_top_level": True,
            "icon": "/adnomaly/static/icon.svg",
            "icon_dark_mode": "/adnomaly/static/icon-dark.svg",
        },
        _link("Flink", _SETTINGS.flink_url),
        _link("Ray dashboard", _SETTINGS.ray_dashboard_url),
        _link("MLflow", _SETTINGS.mlflow_tracking_uri),
        _link("Scoring API", f"{_SETTINGS.serving_url}/docs"),
        _link("S3 console", _SETTINGS.s3_console_url),
    ]
    fastapi_root_middlewares = [
        {"name": "safe login", "middleware": HttpOnlyCookieMiddleware, "args": [], "kwargs": {}}
    ]
