"""The generated secrets of one stack: a file that only its owner can read, written whole or not at all."""

import base64
import os
import secrets
from pathlib import Path

from adnomaly.home import Home
from adnomaly.settings import SECRETS

KEYS = ("AIRFLOW_FERNET_KEY", "AIRFLOW_JWT_SECRET", "AIRFLOW_SECRET_KEY")
"""Keys of Airflow's own: no setting of ours, so they live in a file beside."""


def ensure(home: Home) -> None:
    """Generate what is missing; what is there stays as it is."""
    home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    _complete(home.secrets, SECRETS)
    _complete(home.airflow_keys, KEYS)


def read(file: Path) -> dict[str, str]:
    """NAME=value lines of a file; nothing when there is no file."""
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
    values = {name: values.get(name) or _generate(name) for name in names}
    part = file.with_suffix(".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.writelines(f"{name}={value}\n" for name, value in values.items())
    part.replace(file)


def _generate(name: str) -> str:
    if name == "AIRFLOW_FERNET_KEY":
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_hex(24)
