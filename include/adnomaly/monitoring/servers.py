"""The servers that the stages need: the state of each, as supervisord reports it."""

import msgspec

from adnomaly.monitoring.stages import FAILED, RUNNING, ProcessState, Snapshot, State
from adnomaly.streams import BY_NAME


class ServerState(msgspec.Struct, frozen=True):
    """One server at one moment; `process` is supervisord's word, such as RUNNING or BACKOFF."""

    name: str
    state: State
    process: str


def server_states(snapshot: Snapshot) -> list[ServerState]:
    """Every supervised program that is no stream; empty when supervisord does not answer."""
    programs = snapshot.programs or {}
    return [
        ServerState(name, _state(program), program.state)
        for name, program in programs.items()
        if name not in BY_NAME
    ]


def _state(program: ProcessState) -> State:
    if program.state in RUNNING:
        return "green"
    if program.state in FAILED:
        return "red"
    return "grey" if program.state == "STOPPED" else "amber"
