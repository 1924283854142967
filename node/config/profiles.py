"""Finding a profile of thresholds: by the name of one that ships, a file, or its content id.

Profiles that `prime-node calibrate` makes lie in the data folder's `profiles/`, as TOML.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from node.config.typed import decode_text, expand
from node.errors import InputError, system_error
from proofs.errors import ProofError
from proofs.thresholds.limits import Thresholds
from proofs.thresholds.named import builtin, is_builtin
from proofs.thresholds.profiles import MAX_TEXT, Profile

MAX_PROFILES = 1024
MIN_PREFIX = 12


class UnknownProfile(InputError):
    """No profile goes by that name, or several do; the message lists those that exist."""


def profiles_folder(data_dir: Path) -> Path:
    """Where the profiles of a data folder lie."""
    return data_dir / "profiles"


def shipped_profiles() -> dict[str, Path]:
    """Names and files of the profiles that come with prime-node."""
    folder = Path(str(files("node") / "data"))
    return {
        path.name.removeprefix("profile-").removesuffix(".toml"): path
        for path in sorted(folder.glob("profile-*.toml"))
    }


def read_profile(path: Path) -> Profile:
    """Raises InputError naming the file when it cannot be read or is no profile."""
    try:
        with path.open("rb") as file:
            data = file.read(4 * MAX_TEXT + 1)
        return Profile.from_toml(decode_text(data, path))
    except OSError as exc:
        raise system_error(path, "cannot read", exc) from exc
    except ProofError as exc:
        raise InputError(f"{path}: {exc}", "make one with: prime-node calibrate") from exc


def load_profile(which: str, data_dir: Path) -> Profile:
    """The profile that ships as `which`, is the file `which`, or has a content id that begins with
    it (at least 12 hex digits) in the data folder or among those that ship.

    Raises:
        UnknownProfile: there is none, or several ids begin so.
        InputError: the file is no profile.
    """
    shipped = shipped_profiles()
    if which in shipped:
        return read_profile(shipped[which])
    path = expand(Path(which))
    if path.is_file():
        return read_profile(path)
    own = sorted(profiles_folder(data_dir).glob("*.toml"))[:MAX_PROFILES]
    if len(which) >= MIN_PREFIX:
        known = [read_profile(path) for path in (*shipped.values(), *own)]
        found = {p.profile_id: p for p in known if p.profile_id.hex().startswith(which.lower())}
        if len(found) == 1:
            return found.popitem()[1]
        if found:
            raise UnknownProfile(f"{len(found)} profiles have an id that begins with {which}")
    names = ", ".join([*shipped, *(str(path) for path in own)]) or "none"
    raise UnknownProfile(f"no profile {which!r}", f"there are: {names}")


def load_thresholds(which: str, data_dir: Path) -> Thresholds:
    """Thresholds by the names of `proofs.thresholds.named`, or those of a profile.

    Raises what `load_profile` raises.
    """
    if is_builtin(which):
        return builtin(which)
    return load_profile(which, data_dir).thresholds
