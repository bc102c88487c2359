#!/bin/sh
# Starts a platform in a folder of its own, has tools/fuzz-api.sh ask its admin API, and ends it.
#
#   tools/fuzz-platform.sh target/debug/hongbao
#
# Fails as the fuzzer does, and where the platform has ended by itself or its audit trail is not whole behind it.
set -eu

HONGBAO=${1:?"usage: $0 HONGBAO"}
HERE=$(cd "$(dirname "$0")/.." && pwd)
PLACE=$(mktemp -d)
PID=
end() {
    [ -z "$PID" ] || kill "$PID" 2>/dev/null || true
    [ -z "$PID" ] || wait "$PID" 2>/dev/null || true
    rm -rf "$PLACE"
}
trap end EXIT
trap 'exit 130' INT TERM

"$HONGBAO" up --data "$PLACE/data" --campaign "$HERE/quota-config/campaigns/tour.yaml" \
    --set access.tcp=127.0.0.1:0 --set access.http=127.0.0.1:0 --set console.http=127.0.0.1:0 \
    --port-file "$PLACE/ports" >"$PLACE/log" 2>&1 &
PID=$!
tries=0
until [ -s "$PLACE/ports" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ] || ! kill -0 "$PID" 2>/dev/null; then
        echo "fuzz-platform: the platform does not serve:" >&2
        tail -n 20 "$PLACE/log" >&2
        exit 1
    fi
    sleep 0.1
done
ADDRESS=$(sed -n 's/.*"console":"\([^"]*\)".*/\1/p' "$PLACE/ports")
TOKEN=$("$HONGBAO" token operator --data "$PLACE/data" --name fuzz --role admin)

status=0
"$HERE/tools/fuzz-api.sh" "http://$ADDRESS" "$TOKEN" || status=$?
if ! kill -0 "$PID" 2>/dev/null; then
    echo "fuzz-platform: the platform has ended by itself:" >&2
    tail -n 20 "$PLACE/log" >&2
    exit 1
fi
if command -v python3 >/dev/null 2>&1; then
    # The trail of all that was done has to be whole. The token stays out of the arguments.
    FUZZ_TOKEN=$TOKEN FUZZ_ADDRESS=$ADDRESS python3 - <<'END' || status=1
import json, os, sys, urllib.request
ask = urllib.request.Request("http://%s/v1/audit/verify" % os.environ["FUZZ_ADDRESS"],
                             headers={"Authorization": "Bearer " + os.environ["FUZZ_TOKEN"]})
found = json.load(urllib.request.urlopen(ask, timeout=60))
print("fuzz-platform: the trail behind it:", json.dumps(found))
sys.exit(0 if found["ok"] else 1)
END
fi
exit "$status"
