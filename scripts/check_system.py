#!/usr/bin/env python3
"""Whether this machine has what an installation needs, asked before anything is downloaded.

    python3 scripts/check_system.py

One package, fastecdsa (libp2p needs it), comes as source only, so a C compiler, Python's headers
and GMP are needed, unless pip has built it here before. Ends with 0, or with 5 and the one command
that installs what lacks. Runs on any Python 3, to be able to say that another one is needed.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 13)
EXIT_RESOURCE = 5
BUILT_HERE = "fastecdsa"
SECONDS = 60

NAMES = {
    # what lacks: Debian and Ubuntu, Fedora and RHEL, Arch, Alpine, openSUSE
    "compiler": ("gcc", "gcc", "gcc", "gcc", "gcc"),
    "libc": ("libc6-dev", "glibc-devel", "glibc", "musl-dev", "glibc-devel"),
    "python": (
        "python{version}-dev",
        "python{version}-devel",
        "python",
        "python3-dev",
        "python3-devel",
    ),
    "gmp": ("libgmp-dev", "gmp-devel", "gmp", "gmp-dev", "gmp-devel"),
    "venv": ("python{version}-venv", "python{version}", "python", "python3", "python3"),
}
INSTALLERS = (
    ("apt-get", "apt-get install -y"),
    ("dnf", "dnf install -y"),
    ("pacman", "pacman -S --needed"),
    ("apk", "apk add"),
    ("zypper", "zypper install -y"),
)
PROGRAMS = {
    "compiler": "int main(void) { return 0; }",
    "libc": "#include <stdio.h>\nint main(void) { return 0; }",
    "python": "#include <Python.h>\nint main(void) { return 0; }",
    "gmp": "#include <gmp.h>\nint main(void) { mpz_t n; mpz_init(n); return 0; }",
}
"""What must compile and link; in this order, since each needs those before it."""

Compiles = Callable[[str], bool]


def compiles(program: str) -> bool:
    """Whether this machine's C compiler makes a program of it."""
    named = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    command = shlex.split(named)
    if shutil.which(command[0]) is None:
        command = ["cc"]
    if shutil.which(command[0]) is None:
        return False
    include = sysconfig.get_path("include")
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "program")
        command += ["-x", "c", "-", "-o", out, f"-I{include}"]
        command += ["-lgmp"] if "gmp.h" in program else []
        done = subprocess.run(command, input=program.encode(), capture_output=True, timeout=SECONDS)
    return done.returncode == 0


def lacking(compiles: Compiles = compiles) -> list[str]:
    """What lacks for building; where the compiler does, whether the rest is there is not known."""
    found = []
    for name, program in PROGRAMS.items():
        if not compiles(program):
            found.append(name)
            if name in ("compiler", "libc") and not compiles(PROGRAMS["compiler"]):
                return [*found, *(rest for rest in PROGRAMS if rest not in found)]
    return found


def built_before() -> bool:
    """Whether pip has a wheel of the package that would have to be built, for this Python."""
    command = [sys.executable, "-m", "pip", "cache", "list", BUILT_HERE, "--format", "abspath"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    tag = f"-cp{sys.version_info[0]}{sys.version_info[1]}-"
    return done.returncode == 0 and tag in done.stdout


def advice(missing: Sequence[str], has: Callable[[str], str | None] = shutil.which) -> str:
    """The one command to type, for this system's package manager."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for column, (program, install) in enumerate(INSTALLERS):
        if has(program) is not None:
            names = [NAMES[name][column].format(version=version) for name in missing]
            root = "" if os.geteuid() == 0 else "sudo "
            return f"{root}{install} {' '.join(dict.fromkeys(names))}"
    return "install: a C compiler, and the development files of libc, Python and GMP"


def main() -> int:
    """Say what lacks, if anything does."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        print(
            f"error: Python 3.11 to 3.13 is needed, not {platform.python_version()} "
            "(try: make PYTHON=python3.12)",
            file=sys.stderr,
        )
        return EXIT_RESOURCE
    missing = [] if find_spec("venv") and find_spec("ensurepip") else ["venv"]
    building = lacking()
    if building and not built_before():
        missing += building
    if not missing:
        return 0
    print(
        f"error: this machine lacks what the installation needs: {', '.join(missing)}\n"
        f"type this, then the same again:\n\n    {advice(missing)}\n",
        file=sys.stderr,
    )
    return EXIT_RESOURCE


if __name__ == "__main__":
    sys.exit(main())
