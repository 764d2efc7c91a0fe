"""Backup and restore of all data of a stack, in one tar file, while nothing runs.

Everything is copied at one moment, so that tables, offsets, lake, registry, bundles and checkpoints
agree. Streams pause meanwhile; what others send to Kafka must wait for it.
"""

import io
import os
import pwd
import tarfile
from copy import copy
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from adnomaly.errors import BadInput, NewerVersion
from adnomaly.files import replacing
from adnomaly.home import FORMAT, Home
from adnomaly.settings import Settings
from stack import lifecycle, supervisord
from stack.progress import Progress
from stack.servers import SERVERS
from stack.servers.postgres import ACCOUNT, binary

MANIFEST: Final = "manifest.json"
HOME: Final = "home"
POSTGRES: Final = "postgres"
NOT_KEPT: Final = frozenset(
    {"jars", "setup", "logs", "flink/home", "flink/tmp", "flink/log", "run/ray", "run/h"}
)
"""Below the home: installed by set-up, recreated by `make up`, or gone when the stack stops."""


class Manifest(msgspec.Struct, frozen=True):
    """The first file of a backup."""

    format: int
    version: str
    taken_at: datetime
    postgres: str


def backup(settings: Settings, progress: Progress, to: Path) -> None:
    """Stop the stack, write the file (mode 0600: it holds the secrets), start what ran before.

    Raises:
        BadInput: the file exists, or there is nothing to copy.
    """
    home = Home.of(settings)
    if to.exists():
        raise BadInput(f"{to} exists; choose another name")
    if not home.postgres_data.exists():
        raise BadInput(f"{home.path} holds no data yet: `make up` creates it")
    ran = _running(settings)
    lifecycle.down(settings, progress)
    try:
        with replacing(to, mode=0o600) as draft, tarfile.open(draft, "w") as tar:
            _write(tar, home)
        progress.say(f"wrote {to}, {to.stat().st_size / 1e6:,.0f} MB")
    finally:
        if ran:
            everything = len(ran) == len(SERVERS)
            lifecycle.up(settings, progress, () if everything else ran)


def restore(settings: Settings, progress: Progress, source: Path, *, replace: bool) -> None:
    """Unpack a backup into ADNOMALY_HOME; `make up` then starts what ran when it was taken.

    Args:
        replace: erase the data of this home first.

    Raises:
        BadInput: no backup, one of another PostgreSQL, or the home holds data.
        NewerVersion: a newer version wrote it.
    """
    home = Home.of(settings)
    with _opened(source) as tar:
        # Refuses paths outside; Python 3.11.4 brought it.
        tar.extraction_filter = getattr(tarfile, "tar_filter", lambda member, _: member)
        _check(tar, source)
        if home.postgres_data.exists() and not replace:
            raise BadInput(
                f"{home.path} holds data: `make restore FROM={source} YES=1` erases it first"
            )
        lifecycle.reset(settings, progress)
        for member in tar:
            _unpack(tar, member, home)
    if os.geteuid() == 0:
        account = pwd.getpwnam(ACCOUNT)
        for path in (home.postgres_data, *home.postgres_data.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)
    progress.say(f"restored {home.path} from {source}. Next: make up")


def _running(settings: Settings) -> list[str]:
    if not supervisord.is_running(settings):
        return []
    states = supervisord.states(settings)
    return [s.name for s in SERVERS if states[s.name]["statename"] in ("STARTING", "RUNNING")]


def _write(tar: tarfile.TarFile, home: Home) -> None:
    version = (home.postgres_data / "PG_VERSION").read_text().strip()
    manifest = msgspec.json.encode(
        Manifest(FORMAT, metadata.version("adnomaly"), datetime.now(UTC), version)
    )
    info = tarfile.TarInfo(MANIFEST)
    info.size = len(manifest)
    tar.addfile(info, io.BytesIO(manifest))
    tar.add(home.postgres_data, POSTGRES)

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        below = PurePosixPath(member.name).relative_to(HOME)
        left_out = str(below) in NOT_KEPT or home.path / below == home.postgres_data
        return None if left_out else member

    tar.add(home.path, HOME, filter=kept)


def _opened(source: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(source)
    except (OSError, tarfile.ReadError) as error:
        raise BadInput(f"{source} cannot be read as a backup: {error}") from None


def _check(tar: tarfile.TarFile, source: Path) -> None:
    first = tar.next()
    file = tar.extractfile(first) if first is not None and first.name == MANIFEST else None
    if file is None:
        raise BadInput(f"{source} is no backup of Adnomaly: it does not begin with {MANIFEST}")
    manifest = msgspec.json.decode(file.read(), type=Manifest)
    if manifest.format > FORMAT:
        raise NewerVersion(f"{source} was written by a newer version, {manifest.version}")
    installed = Path(binary("postgres")).parts
    if "postgresql" in installed and manifest.postgres not in installed:
        raise BadInput(f"{source} needs PostgreSQL {manifest.postgres}; install it first")


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, home: Home) -> None:
    top, _, below = member.name.partition("/")
    target = {HOME: home.path, POSTGRES: home.postgres_data}.get(top)
    if target is None:
        return
    target.mkdir(parents=True, exist_ok=True)
    if not below:
        target.chmod(member.mode)
        return
    moved = copy(member)
    moved.name = below
    if member.islnk():
        moved.linkname = member.linkname.partition("/")[2]
    tar.extract(moved, target)
