#!/bin/bash
# All tests: unit tests, then integration tests on a test stack with its own ports (+500) and data,
# which can run next to another stack. ONLY="tests/integration/test_x.py ..." runs only these.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/.venv/bin:$PATH
began=$SECONDS
step() { printf '\n=== %4d s  %s\n' "$((SECONDS - began))" "$1"; }

# Only the tests need a browser.
command -v chromium >/dev/null && command -v chromedriver >/dev/null || include/stack/setup.sh chromium chromium-driver

step "lint"
ruff check .
ruff format --check .
PYTHONPATH=plugins lint-imports
mypy

step "unit tests"
pytest -q -m "not integration" -n 2 --dist loadscope

step "the test stack: ports +500, data in .adnomaly-test"
export ADNOMALY_HOME=$PWD/.adnomaly-test PORT_OFFSET=500
python -m stack secrets
python -m stack reset --yes
trap 'step "stopping the test stack"; python -m stack down' EXIT
python -m stack secrets
python -m stack up

# pytest exits with 5 when ONLY selects no test of a kind; accept that.
# A failure does not keep the second half from running.
failed=
integration() { pytest -v --timeout 900 "$@" ${ONLY:-tests} || { [ $? = 5 ] && [ -n "${ONLY:-}" ]; } || failed=1; }

step "integration tests, two files in parallel (${ONLY:-all})"
integration -m "integration and not kills" -n 2 --dist loadfile

step "tests that kill servers, one by one (${ONLY:-all})"
integration -m "integration and kills"

[ -z "$failed" ] || { step "tests failed: search above for FAILED"; exit 1; }
step "all tests passed. Next: make demo, then open docs/architecture.md"
