#!/usr/bin/env python3
"""Compile the contracts to `contracts/artifacts/`, or check that what is there is current.

The Python code reads only the committed artifacts, so neither a user nor the test suite needs a
compiler; this script is for whoever changes `contracts/src/`, and for continuous integration. The
compiler is the npm build of solc at the version that `contracts/package-lock.json` pins; when
`contracts/node_modules` does not fit the lock file, `npm ci` installs it first.

    python scripts/build_contracts.py            write the artifacts
    python scripts/build_contracts.py --check    recompile and compare, exit 1 on a difference
    python scripts/build_contracts.py --install  only install what npm has for contracts/

Exit status 3 means that Node is not there and nothing was compiled or compared: a caller for which
the check is optional can tell that from a failed check.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

CONTRACTS = Path(__file__).resolve().parent.parent / "contracts"
NO_NODE = 3


class BuildError(Exception):
    """A step failed; the text says which and what to do."""


class NodeMissing(BuildError):
    """Node.js or npm is not on PATH."""


def find_tools() -> tuple[str, str]:
    """Return the paths of node and npm; raise NodeMissing when either is absent."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        missing = "node" if node is None else "npm"
        raise NodeMissing(
            f"{missing} is not on PATH, so the contracts cannot be compiled. "
            "Install Node.js 20 or later; running the node itself needs none of this."
        )
    return node, npm


def locked_versions(lock_file: Path) -> dict[str, str]:
    """Map each package path of an npm lock file to its version; empty when there is no file."""
    try:
        packages = json.loads(lock_file.read_text(encoding="utf-8"))["packages"]
    except FileNotFoundError:
        return {}
    return {
        path: entry["version"]
        for path, entry in packages.items()
        # Optional packages are builds for other platforms and are not installed here.
        if path and not entry.get("optional")
    }


def install(npm: str) -> None:
    """Run `npm ci` unless what is installed already fits the lock file."""
    wanted = locked_versions(CONTRACTS / "package-lock.json")
    if wanted == locked_versions(CONTRACTS / "node_modules" / ".package-lock.json"):
        return
    print("installing the compiler and OpenZeppelin's contracts (npm ci)", flush=True)
    done = subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=CONTRACTS, check=False)
    if done.returncode != 0:
        raise BuildError(
            f"`npm ci` in {CONTRACTS} failed; its output is above. It needs a package registry."
        )


def main() -> int:
    """Build the artifacts or compare them; 0 when they are right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("--install", action="store_true", help="compile nothing")
    arguments = parser.parse_args()
    try:
        node, npm = find_tools()
        install(npm)
    except BuildError as error:
        print(f"build_contracts: {error}", file=sys.stderr)
        return NO_NODE if isinstance(error, NodeMissing) else 1
    if arguments.install:
        return 0
    command = [node, "tools/compile.js", *(["--check"] if arguments.check else [])]
    done = subprocess.run(command, cwd=CONTRACTS, check=False)
    if done.returncode != 0:
        advice = "run scripts/build_contracts.py and commit contracts/artifacts/"
        if not arguments.check:
            advice = "fix what the compiler reports above"
        print(f"build_contracts: {advice}", file=sys.stderr)
    return min(done.returncode, 1)


if __name__ == "__main__":
    sys.exit(main())
