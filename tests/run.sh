#!/bin/bash
# Every test there is: first those that need no server, then those on the real servers of a stack of their own,
# with its own ports and data, so that it can run beside a demo. ONLY="tests/integration/test_x.py ..." runs just those.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/.venv/bin:$PATH
began=$SECONDS
step() { printf '\n=== %4d s  %s\n' "$((SECONDS - began))" "$1"; }

# Only tests need a browser.
command -v chromium >/dev/null && command -v chromedriver >/dev/null || include/stack/setup.sh chromium chromium-driver

step "lint"
ruff check .
ruff format --check .
PYTHONPATH=plugins lint-imports
mypy

step "tests without servers"
pytest -q -m "not integration" -n 2 --dist loadscope

step "the test stack: real servers on ports of their own (+500), data in .adnomaly-test"
export ADNOMALY_HOME=$PWD/.adnomaly-test PORT_OFFSET=500
python -m stack secrets
python -m stack reset --yes
trap 'step "stopping the test stack"; python -m stack down' EXIT
python -m stack secrets
python -m stack up

# ONLY may name files without tests of a kind; all of them together must have some.
integration() { pytest -v --timeout 900 "$@" ${ONLY:-tests} || { [ $? = 5 ] && [ -n "${ONLY:-}" ]; }; }

step "integration tests on the real servers, two files at a time (${ONLY:-all})"
integration -m "integration and not kills" -n 2 --dist loadfile

step "tests that kill servers, one after the other (${ONLY:-all})"
integration -m "integration and kills"

step "all tests passed. Next: make demo, then open docs/architecture.md"
