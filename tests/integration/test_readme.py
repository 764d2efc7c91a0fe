"""The commands of the README, copied from it and run against the servers of the test stack."""

import os
import re
import subprocess
import sys

import pytest

from adnomaly.settings import ROOT
from stack.ports import BASE

pytestmark = pytest.mark.integration

BLOCKS = re.findall(
    r"<!-- run in CI -->\n```(sh|python)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
)
PROGRAMS = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


@pytest.mark.parametrize(
    ("language", "code"), BLOCKS, ids=[code.split("\n")[0][:40] for _, code in BLOCKS]
)
def test_it_does_what_it_says(settings, served, language, code):
    for number in BASE.values():
        code = code.replace(f"localhost:{number}", f"localhost:{number + settings.port_offset}")
    done = subprocess.run(
        [*PROGRAMS[language], code],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.strip()
    if "/v1/score" in code:
        assert "True" in done.stdout or '"anomaly_score"' in done.stdout


def test_there_are_commands():
    assert len(BLOCKS) >= 4
