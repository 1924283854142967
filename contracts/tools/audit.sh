#!/bin/sh
# Static analysis (slither) and symbolic tests (halmos) of the contracts; fails on any finding.
#
#   tools/audit.sh            both
#   tools/audit.sh slither    one of them
#   tools/audit.sh halmos
#
# Needs node_modules (npm ci) and Python 3.11+; installs both tools into .audit-venv when missing.
# Works on a copy, so that nobody's out/ and cache/ are touched. README.md says what is excluded and why.
set -eu
cd "$(dirname "$0")/.."
contracts=$PWD
venv=$contracts/.audit-venv
what=${1:-both}

if [ ! -x "$venv/bin/halmos" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet \
        slither-analyzer==0.11.6 halmos==0.3.3
fi

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R src tools foundry.toml package.json slither.config.json "$copy"
ln -s "$contracts/node_modules" "$copy/node_modules"
cd "$copy"
export PATH="$venv/bin:$contracts/node_modules/.bin:$PATH"

if [ "$what" != halmos ]; then
    slither .
fi
if [ "$what" != slither ]; then
    mkdir test
    cp -R "$contracts/test/halmos" test/halmos
    rm -rf out cache
    halmos --solver-timeout-assertion 180000
fi
