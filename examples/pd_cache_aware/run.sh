#!/bin/sh
# Starts the router for a PD-disaggregated deployment; more flags may be given: ./run.sh --port 30000
set -eu
cd "$(dirname "$0")"
PATH="$PATH:$(cd ../.. && pwd)/.venv/bin"  # unless it is installed elsewhere
exec fd-router --config_path config/config.yaml "$@"
