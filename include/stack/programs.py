"""Every program under supervisord: the servers, then the streams in their order of start."""

import sys
from typing import Final

from adnomaly import streams
from adnomaly.settings import Settings
from adnomaly.streams import Stream
from stack.servers import SERVERS, flink
from stack.servers.base import Program, Variables


def _stream(stream: Stream) -> Program:
    def command(settings: Settings) -> list[str]:
        return [sys.executable, "-m", stream.module]

    def env(settings: Settings) -> Variables:
        return flink.env(settings) if stream.server == "flink" else {}

    return Program(name=stream.name, command=command, env=env)


PROGRAMS: Final[dict[str, Program]] = {
    **{server.name: server for server in SERVERS},
    **{name: _stream(streams.BY_NAME[name]) for name in streams.START_ORDER},
}
