"""The generated secrets of one stack, in files that only their owner can read."""

import base64
import secrets
from pathlib import Path
from typing import Final

from adnomaly.files import write_atomic
from adnomaly.home import Home
from adnomaly.settings import SECRETS

KEYS: Final = ("AIRFLOW_FERNET_KEY", "AIRFLOW_JWT_SECRET", "AIRFLOW_SECRET_KEY")
"""Keys of Airflow alone. They are no settings, so they have a file of their own."""


def ensure(home: Home) -> None:
    """Generate missing secrets; existing ones stay."""
    home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    _complete(home.secrets, SECRETS)
    _complete(home.airflow_keys, KEYS)


def read(file: Path) -> dict[str, str]:
    """NAME=value lines of a file; empty when there is no file."""
    if not file.exists():
        return {}
    pairs = (
        line.partition("=")
        for line in file.read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    return {name.strip(): value.strip() for name, _, value in pairs}


def _complete(file: Path, names: tuple[str, ...]) -> None:
    values = read(file)
    if all(values.get(name) for name in names):
        return
    lines = [f"{name}={values.get(name) or _generate(name)}\n" for name in names]
    write_atomic(file, "".join(lines).encode(), mode=0o600)


def _generate(name: str) -> str:
    if name == "AIRFLOW_FERNET_KEY":
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_hex(24)
