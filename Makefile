# Adnomaly. `make help` lists the targets; each installs what is missing first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
TEST_STACK := ADNOMALY_HOME=$(CURDIR)/.adnomaly-test PORT_OFFSET=500
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup up down backup restore status logs reset env airflow demo test lint lock reference create-topic gen tail tail-features \
  db-consumer minio-consumer feast-apply feast-backfill feast-ingestor feast-test build-ds train-model eval-model eval eval-real export-onnx \
  serve db-query flink-submit rollback bench-windows bench-console bench-incidents screenshots

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

setup: ## install missing packages (instant when nothing is missing)
	@include/stack/setup.sh

demo: setup ## the main job on real servers: from clicks to the alert about a planted attack
	@$(PY) -m stack up && $(PY) -m stack demo

test: setup ## lint and all tests, on a stack of their own
	@tests/run.sh

lint: setup ## ruff, import-linter and mypy
	@ruff check . && ruff format --check . && PYTHONPATH=plugins lint-imports && mypy

up: setup ## start every server, and the streams that ran at the last down
	@$(PY) -m stack up

down: setup ## stop everything, keep the data
	@$(PY) -m stack down

backup: setup ## all data into one file, the stack pauses meanwhile (TO=adnomaly.tar)
	@$(PY) -m stack backup $(or $(TO),adnomaly-$(shell date -u +%Y%m%dT%H%MZ).tar)

restore: setup ## the data of a backup (FROM=adnomaly.tar; YES=1 erases what is there)
	@$(PY) -m stack restore $(FROM) $(if $(YES),--yes)

status: setup ## one line per program
	@$(PY) -m stack status

logs: setup ## follow the logs (P=kafka for one program)
	@$(PY) -m stack logs $(if $(P),--program $(P))

reset: setup ## erase all data, after asking (YES=1: without)
	@$(PY) -m stack reset $(if $(YES),--yes)

env: setup ## shell lines: eval "$$(make -s env)"
	@$(PY) -m stack env

airflow: setup ## the live Airflow's command line: make airflow ARGS="dags list"
	@$(PY) -m stack airflow $(ARGS)

create-topic: setup ## create missing topics
	@$(PY) -m stack topics

gen: setup ## send clicks in the foreground (ARGS="--from -2h")
	@$(PY) -m streaming.generate_clicks $(ARGS)

tail: setup ## watch valid clicks (ARGS="--geo DE --platform web --where 'cpc > 1'")
	@$(PY) -m streaming.tail clickstream.valid $(ARGS)

tail-features: setup ## watch windows (ARGS="--geo DE --where 'event_count > 50'")
	@$(PY) -m streaming.tail features $(ARGS)

db-consumer: setup ## clicks into PostgreSQL, in the foreground
	@$(PY) -m streaming.store_clicks

minio-consumer: setup ## clicks into the lake, in the foreground
	@$(PY) -m streaming.archive_clicks

flink-submit: setup ## submit the window job and monitor it, in the foreground
	@$(PY) -m streaming.window_job

feast-ingestor: setup ## windows into Feast, in the foreground
	@$(PY) -m streaming.publish_features

feast-apply: setup ## apply the feature definitions to Feast's registry
	@$(PY) -m stack features apply

feast-backfill: setup ## compute days from the lake (FROM=2026-11-01 TO=2026-11-02; default yesterday)
	@$(PY) -m stack features backfill $(if $(FROM),--first $(FROM)) $(if $(TO),--last $(TO))

feast-test: setup ## compare online with offline features
	@$(PY) -m stack features check

build-ds: setup ## build the training set
	@$(PY) -m stack model build-ds

train-model: setup ## fit the detector
	@$(PY) -m stack model train-model

eval-model: setup ## evaluate it on injected attacks
	@$(PY) -m stack model eval-model

eval: setup ## evaluate the detector and the reference detectors on scenarios with planted attacks (ARGS="--seeds development")
	@$(PY) -m adnomaly.evaluation worlds $(ARGS)

eval-real: setup ## the same on labelled real series: make eval-real DATA=<folder>
	@$(PY) -m adnomaly.evaluation real --data $(DATA)

export-onnx: setup ## seal the bundle, register it, let the promotion check decide
	@$(PY) -m stack model export-onnx

rollback: setup ## serve the previous champion again
	@$(PY) -m stack model rollback

serve: setup ## deploy the current bundle and monitor it, in the foreground
	@$(PY) -m serving.serve_detector

db-query: setup ## statistics of what is stored, or SQL: make db-query Q="select count(*) from clickstream_events"
	@eval "$$($(PY) -m stack env)" && psql $(if $(Q),-c "$(Q)",-q -f include/sql/statistics.sql)

bench-windows: setup ## cost of the grouped features against the plain query; on an idle running stack
	@$(PY) tests/bench/bench_windows.py $(ARGS)

screenshots: setup ## the README's screenshots, of the running stack after make demo (needs chromium, chromium-driver)
	@$(PY) -m stack screenshots

bench-console: setup ## the page's queries and rendering with 14 million clicks, 14 days and 200 incidents; on the running stack
	@$(PY) tests/bench/bench_console.py $(ARGS)

bench-incidents: setup ## latency from an attack's start to its incident on the page; on the running stack (ARGS="--attacks 20")
	@$(PY) tests/bench/bench_incidents.py $(ARGS)

lock: setup ## compile requirements.in into the hashed lock
	@uv pip compile --python-version 3.11 --generate-hashes --no-annotate --no-header -q requirements.in -o requirements.txt

reference: setup ## write .env.example, docs/dags.md, docs/schemas.md and the README's tables from the code
	@$(PY) -m stack reference
