"""The way in: makes sure that the packages about to be imported are this distribution's own.

`prime-node`, `python -m prime_node` and `python -m node` all start here. The distribution installs
packages with common names (`PACKAGES`), and others may install packages of the same names. Python
says nothing then: whichever folder comes first on the path wins, and an installer writes over files
that are there. What follows is a traceback from deep inside, or worse, none. So before anything is
imported, `fault` looks

- where each name leads: it must be the folder beside this file;
- whether our modules still have the sizes that the installer noted in `RECORD`. If not, and another
  distribution in the same folder lists the file as its own, it wrote over ours. A file that nobody
  else lists was edited in place, which is its owner's business.

That takes two or three milliseconds; others' records are read only once something is wrong.
This module's name cannot be taken, because by convention it belongs to the distribution of the same
name. It imports nothing of ours until all is well: if another `node` comes first, that is what an
import would get. docs/decisions/0017-import-names.md has the reasons.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec

PACKAGES = ("node", "p2p", "chain", "pipeline", "proofs", "contracts")

EXIT_RESOURCE = 5
EXIT_INTERRUPTED = 130
"""As in `node.errors`. What is taken here is a name; who interrupts does so while we are loaded."""

HOME = os.path.dirname(os.path.abspath(__file__))
AGAIN = "install prime-node again with --force-reinstall --no-deps"


def fault() -> str | None:
    """What is wrong with the packages of our names, and what to do about it; None if nothing is."""
    return _elsewhere() or _overwritten()


def _elsewhere() -> str | None:
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            # A folder without an `__init__.py`, or none: an uninstaller took the other's files.
            return f"prime-node in {HOME} lacks {name}/__init__.py ({AGAIN})"
        folder, ours = os.path.dirname(spec.origin), os.path.join(HOME, name)
        if folder != ours and not _is_same(folder, ours):
            parent = os.path.dirname(folder)
            owner = next(_owners(parent, f"{name}/__init__.py"), None)
            by = f" (installed by {' '.join(owner)})" if owner else ""
            remove = f"pip uninstall {owner[0]}" if owner else "remove or rename it"
            return (
                f"another package {name}, {folder}{by}, hides prime-node's in {HOME} "
                f"({remove}, keep {parent} off PYTHONPATH, or give prime-node a virtual "
                "environment of its own)"
            )
    return None


def _is_same(one: str, other: str) -> bool:
    """Whether two spellings are of one folder, as with symbolic links."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _overwritten() -> str | None:
    for file, size in _recorded():
        try:
            if os.stat(f"{HOME}/{file}").st_size == size:
                continue
        except OSError:
            if os.path.exists(f"{HOME}/{file}c"):
                continue  # Installed as bytecode only.
            return f"prime-node in {HOME} lacks {file} ({AGAIN})"
        owner = next(_owners(HOME, file), None)
        if owner:
            return (
                f"{' '.join(owner)} wrote over prime-node's {file} in {HOME} "
                f"(pip uninstall {owner[0]}, then {AGAIN})"
            )
    return None


def _recorded() -> Iterator[tuple[str, int]]:
    """The modules that our installer noted, with their sizes; none in a checkout."""
    for _, _, record in _records(HOME, "prime_node-"):
        for line in record.splitlines():
            file, _, rest = line.partition(",")
            size = rest.rpartition(",")[2]
            if file.endswith(".py") and file.partition("/")[0] in PACKAGES and size.isdigit():
                yield file, int(size)


def _owners(folder: str, file: str) -> Iterator[tuple[str, str]]:
    """Name and version of the other distributions in a folder that list `file` as theirs."""
    for name, version, record in _records(folder):
        if name != "prime_node" and f"\n{file}," in f"\n{record}":
            yield name, version


def _records(folder: str, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Name, version and list of files of the distributions that are installed in a folder."""
    try:
        entries = os.listdir(folder)
    except OSError:
        return  # Not a folder: a zip file that is imported from.
    for entry in entries:
        if entry.startswith(prefix) and entry.endswith(".dist-info"):
            try:
                with open(os.path.join(folder, entry, "RECORD"), encoding="utf-8") as file:
                    record = file.read()
            except OSError:
                continue
            name, _, version = entry.removesuffix(".dist-info").partition("-")
            yield name, version, record


def main() -> None:
    """Run the command line, or say in one line why its packages cannot be trusted."""
    wrong = fault()
    if wrong is not None:
        shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(wrong))
        print(f"error: {shown}", file=sys.stderr)
        sys.exit(EXIT_RESOURCE)
    try:
        from node.cli import main as run
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
