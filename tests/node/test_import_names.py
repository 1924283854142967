"""Foreign packages under our names, put there as they really get there: by path and by installer.

Wheels of ours and of others are unpacked into a folder, one over the other, which is all that an
installer does with them. None is asked to: pip removes what it finds under a distribution's name in
the environment that runs it, wherever it is told to install, and that is the developer's.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import prime_node
from node import errors

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOREIGN = 'raise SystemExit("the foreign package ran")\n'


def make_wheel(folder: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """A wheel of these files; nothing but the standard library is needed to make or install it."""
    info = f"{name}-1.0.dist-info"
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, content in {**files, **metadata}.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            record += f"{file},sha256={digest.decode()},{len(content)}\n"
            wheel.writestr(file, content)
        wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return path


def unpack(wheel: Path, packages: Path) -> None:
    """Install a wheel: its files go over what is there, without a question."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)


@dataclass
class Installed:
    """Our distribution in a prefix of its own; the dependencies are this interpreter's."""

    prefix: Path

    @property
    def packages(self) -> Path:
        return self.prefix / "site-packages"

    @property
    def script(self) -> Path:
        return self.prefix / "bin" / "prime-node"

    def add(self, name: str, **files: str) -> None:
        """Install a foreign distribution beside ours; `a__b` is a/b.py."""
        contents = {f"{key.replace('__', '/')}.py": text.encode() for key, text in files.items()}
        contents = {key.replace("/init", "/__init__"): text for key, text in contents.items()}
        unpack(make_wheel(self.prefix, name, contents), self.packages)

    def run(
        self, *arguments: str, first: Path | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the console script, with a folder before ours on the path if `first` is given."""
        path = os.pathsep.join(str(folder) for folder in (first, self.packages) if folder)
        return subprocess.run(
            [sys.executable, *(arguments or (str(self.script), "--version"))],
            env={**os.environ, "PYTHONPATH": path},
            cwd=cwd or self.prefix,
            capture_output=True,
            text=True,
        )


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    prefix = tmp_path_factory.mktemp("installed")
    modules = PROJECT["tool"]["setuptools"]["py-modules"]
    files = {f"{name}.py": (ROOT / f"{name}.py").read_bytes() for name in modules}
    for package in prime_node.PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if "node_modules" not in path.parts:
                files[path.relative_to(ROOT).as_posix()] = path.read_bytes()
    installed = Installed(prefix)
    unpack(make_wheel(prefix, "prime_node", files), installed.packages)
    # As installers write it.
    module, _, function = PROJECT["project"]["scripts"]["prime-node"].partition(":")
    installed.script.parent.mkdir()
    installed.script.write_text(
        f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n", encoding="utf-8"
    )
    return installed


@pytest.fixture
def installed(pristine: Installed, tmp_path: Path) -> Installed:
    """A copy that a test may spoil."""
    return Installed(Path(shutil.copytree(pristine.prefix, tmp_path / "prefix")))


def put(folder: Path, name: str) -> Path:
    package = folder / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(FOREIGN, encoding="utf-8")
    return folder


def the_error(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == errors.EXIT_RESOURCE, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_the_launcher_knows_the_names_and_the_exit_code() -> None:
    assert prime_node.EXIT_RESOURCE == errors.EXIT_RESOURCE
    include = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.partition(".")[0] for name in include} == set(prime_node.PACKAGES)
    assert PROJECT["project"]["scripts"] == {"prime-node": "prime_node:main"}


def test_an_installation_alone_starts(pristine: Installed) -> None:
    done = pristine.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("prime-node ")


@pytest.mark.parametrize("module", ["node", "prime_node"])
def test_a_checkout_starts_from_its_root(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("prime-node ")


@pytest.mark.parametrize("name", prime_node.PACKAGES)
def test_a_package_earlier_on_the_path_is_named(
    pristine: Installed, tmp_path: Path, name: str
) -> None:
    line = the_error(pristine.run(first=put(tmp_path, name)))
    assert f"another package {name}, {tmp_path / name}, hides prime-node's" in line
    assert f"(remove or rename it, keep {tmp_path} off PYTHONPATH, or" in line


def test_python_m_node_looks_at_the_other_names(pristine: Installed, tmp_path: Path) -> None:
    # The current folder comes first with -m.
    done = pristine.run("-m", "node", "--version", cwd=put(tmp_path, "chain"))
    assert f"another package chain, {tmp_path / 'chain'}, hides" in the_error(done)


def test_a_distribution_elsewhere_is_named_with_its_version(
    pristine: Installed, tmp_path: Path
) -> None:
    other = Installed(tmp_path)
    other.add("pipeline_tools", pipeline__init=FOREIGN)
    line = the_error(pristine.run(first=other.packages))
    assert "(installed by pipeline_tools 1.0)" in line
    assert "(pip uninstall pipeline_tools, " in line


def test_a_folder_without_init_hides_nothing(pristine: Installed, tmp_path: Path) -> None:
    (tmp_path / "p2p").mkdir()
    assert pristine.run(first=tmp_path).returncode == 0


def test_ours_reached_by_a_symbolic_link_is_ours(pristine: Installed, tmp_path: Path) -> None:
    (tmp_path / "p2p").symlink_to(pristine.packages / "p2p")
    assert pristine.run(first=tmp_path).returncode == 0


def test_a_distribution_that_wrote_over_ours_is_named(installed: Installed) -> None:
    installed.add("p2p", p2p__init=FOREIGN)
    line = the_error(installed.run())
    assert "p2p 1.0 wrote over prime-node's p2p/__init__.py" in line
    assert "(pip uninstall p2p, then install prime-node again" in line


def test_it_is_seen_though_the_empty_init_is_the_same(installed: Installed) -> None:
    assert (installed.packages / "node" / "errors.py").stat().st_size > len(FOREIGN)
    installed.add("node", node__init="", node__errors=FOREIGN)
    assert "node 1.0 wrote over prime-node's node/errors.py" in the_error(installed.run())


def test_files_beside_ours_are_harmless(installed: Installed) -> None:
    installed.add("chain", chain__unheard_of=FOREIGN)
    assert installed.run().returncode == 0


def test_what_an_uninstaller_took_is_missed(installed: Installed) -> None:
    (installed.packages / "p2p" / "__init__.py").unlink()
    line = the_error(installed.run())
    assert "lacks p2p/__init__.py (install prime-node again" in line
    (installed.packages / "p2p" / "__init__.py").write_text("")
    (installed.packages / "node" / "errors.py").unlink()
    assert "lacks node/errors.py (install prime-node again" in the_error(installed.run())


def test_what_its_owner_edited_in_place_starts(installed: Installed) -> None:
    with (installed.packages / "node" / "__init__.py").open("a") as file:
        file.write("# edited\n")
    assert installed.run().returncode == 0


def test_run_by_its_file_the_folder_worked_in_does_not_matter(
    pristine: Installed, tmp_path: Path
) -> None:
    file = str(pristine.packages / "prime_node.py")
    done = pristine.run(file, "--version", cwd=put(tmp_path, "node"))
    assert (done.returncode, done.stderr) == (0, "")


def test_looking_reads_one_record_and_imports_nothing(pristine: Installed) -> None:
    """Counted, not timed: others' records are read only once something is wrong."""
    code = (
        "import sys, prime_node\n"
        "done = []\n"
        "def note(event, args):\n"
        "    if event in ('open', 'import'): done.append(f'{event} {args[0]}')\n"
        "sys.addaudithook(note)\n"
        "assert prime_node.fault() is None\n"
        "print('\\n'.join(list(done)))"
    )
    done = pristine.run("-c", code).stdout.splitlines()
    assert [line for line in done if line.startswith("import")] == []
    (opened,) = done
    assert opened.endswith("RECORD")
    assert "prime_node-" in opened


def test_an_interruption_while_it_is_loaded_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setattr(prime_node, "fault", lambda: None)
    monkeypatch.setitem(sys.modules, "node.cli", Interrupted())
    with pytest.raises(SystemExit) as ended:
        prime_node.main()
    assert ended.value.code == errors.EXIT_INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"
