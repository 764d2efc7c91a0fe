"""The native servers, one module each.

A module of this package exports `SERVERS`, and `PREPARATIONS` if its servers need set-up while they
run. Start and stop, ports, readiness and `make env` derive from them.

Belongs here: a server's command, configuration, ports, needs and readiness check.
Does not: clients of a server (`adnomaly/clients`), the order of starts (`lifecycle`).
To add a server, add a module.
"""

import importlib
import pkgutil
from types import ModuleType
from typing import Final

from stack.servers.base import Preparation, Server


def _preparations(module: ModuleType) -> tuple[Preparation, ...]:
    preparations: tuple[Preparation, ...] = getattr(module, "PREPARATIONS", ())
    return preparations


def _depth(name: str, needs: dict[str, tuple[str, ...]]) -> int:
    """Length of the longest chain of needs."""
    return max((1 + _depth(need, needs) for need in needs[name]), default=0)


def _discover() -> tuple[tuple[Server, ...], tuple[Preparation, ...]]:
    """Data stores first, then servers with shorter chains of needs, then by module name."""
    modules = [
        importlib.import_module(f"{__name__}.{info.name}")
        for info in pkgutil.iter_modules(__path__)
        if info.name != "base"
    ]
    servers: dict[str, tuple[Server, ...]] = {m.__name__: m.SERVERS for m in modules}
    preparations = [step for module in modules for step in _preparations(module)]
    needs = {server.name: server.needs for group in servers.values() for server in group}
    needs |= {step.name: step.needs for step in preparations}

    def order(name: str) -> tuple[bool, int, str]:
        group = servers[name]
        return not group[0].store, min(_depth(server.name, needs) for server in group), name

    return (
        tuple(server for name in sorted(servers, key=order) for server in servers[name]),
        tuple(sorted(preparations, key=lambda step: _depth(step.name, needs))),
    )


SERVERS, PREPARATIONS = _discover()

STORES: Final = tuple(server.name for server in SERVERS if server.store)
"""Servers that hold data; they stop last."""
