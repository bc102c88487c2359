#!/bin/sh
# Asks the admin API whatever its own OpenAPI document allows, and much that it does not, and fails on any 5xx.
#
#   tools/fuzz-api.sh http://127.0.0.1:7602 TOKEN
#
# The token should be an admin's, of an installation that may be played with: changes are made. Bounded by
# FUZZ_EXAMPLES (for each route, 20) and FUZZ_SECONDS (in all, 300). The fuzzer, schemathesis, is installed into a
# Python environment under the target folder, once. Without python3, pip or the registry there is nothing to do, and it
# says so.
set -eu

VERSION=4.32.5
URL=${1:?"usage: $0 URL TOKEN"}
TOKEN=${2:?"usage: $0 URL TOKEN"}
HERE=$(cd "$(dirname "$0")/.." && pwd)
VENV=${CARGO_TARGET_DIR:-$HERE/target}/schemathesis-$VERSION

if ! command -v python3 >/dev/null 2>&1 || ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then
    echo "fuzz-api: skipped: python3 with venv and pip is not installed here"
    exit 0
fi
if [ ! -x "$VENV/bin/schemathesis" ]; then
    rm -rf "$VENV"
    python3 -m venv "$VENV"
    if ! "$VENV/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$VERSION"; then
        rm -rf "$VENV"
        echo "fuzz-api: skipped: schemathesis $VERSION can't be had from the package registry"
        exit 0
    fi
fi

# Not in the arguments: those can be read by everybody on the machine.
CONFIG=$(mktemp)
trap 'rm -f "$CONFIG"' EXIT INT TERM
chmod 600 "$CONFIG"
printf '[headers]\nAuthorization = "Bearer %s"\n' "$TOKEN" >"$CONFIG"

status=0
timeout "${FUZZ_SECONDS:-300}" "$VENV/bin/schemathesis" --config-file "$CONFIG" run "$URL/openapi.json" \
    --checks not_a_server_error --phases examples,coverage,fuzzing \
    --max-examples "${FUZZ_EXAMPLES:-20}" --request-timeout 20 --workers 2 --no-color || status=$?
if [ "$status" -eq 124 ]; then
    # What it had found by then is not known: that is no success.
    echo "fuzz-api: not done within ${FUZZ_SECONDS:-300} s; set FUZZ_EXAMPLES lower or FUZZ_SECONDS higher" >&2
fi
exit "$status"
