"""Requests that are not answered: the body of the response, and the exception that carries it."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was not answered.

    `error` is a stable code, `detail` a sentence, `fix` what to do about it.
    """

    error: str
    detail: str
    field: Annotated[
        str, Meta(description="Path of the offending field, such as `rows[3].ctr_avg`")
    ] = ""
    value: Annotated[str, Meta(description="The offending value, at most 200 characters")] = ""
    rule: Annotated[str, Meta(description="The rule that it breaks")] = ""
    fix: str = ""


class Refusal(Exception):
    """Answer a request with a `Problem`."""

    def __init__(
        self, status: int, problem: Problem, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        super().__init__(problem.detail)
        self.status, self.problem, self.headers = status, problem, headers
