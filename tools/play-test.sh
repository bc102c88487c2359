#!/bin/sh
# The page /play in a browser: two windows talk, one wins.
#
#   tools/play-test.sh target/debug/hongbao
#
# Node runs it, with Playwright (from the package registry, into the target folder) and Chromium: CHROMIUM says where that is,
# otherwise the one on the PATH is taken (Debian: apt-get install chromium). Where something can't be had it says so and is
# skipped, unless PLAY_REQUIRED=1. Pictures go to PLAY_SHOTS, if that is set.
set -eu

HONGBAO=${1:?"usage: $0 HONGBAO"}
HERE=$(cd "$(dirname "$0")/.." && pwd)
VERSION=1.65.1
ROOM=${CARGO_TARGET_DIR:-$HERE/target}/playwright-$VERSION

skip() {
    echo "play-test: skipped: $1"
    [ "${PLAY_REQUIRED:-}" != 1 ] || exit 1
    exit 0
}

command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 || skip "there is no node with npm"
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
[ -n "$CHROMIUM" ] || skip "there is no Chromium; on Debian: apt-get install chromium"
if [ ! -d "$ROOM/node_modules/playwright-core" ]; then
    mkdir -p "$ROOM"
    # Without a browser of its own.
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$ROOM" "playwright-core@$VERSION" ||
        skip "playwright-core $VERSION can't be had from the package registry"
fi
case $HONGBAO in /*) ;; *) HONGBAO=$PWD/$HONGBAO ;; esac
[ -z "${PLAY_SHOTS:-}" ] || mkdir -p "$PLAY_SHOTS"

HONGBAO=$HONGBAO CHROMIUM=$CHROMIUM PLAYWRIGHT=$ROOM/node_modules/playwright-core SHOTS=${PLAY_SHOTS:-} \
    exec timeout "${PLAY_SECONDS:-300}" node --test "$HERE/services/hongbao/tests/browser/"
