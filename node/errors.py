"""Errors a person can act on, and the exit codes of `prime-node`.

Everything that can go wrong because of the outside world (a file, a flag, a peer, a port) becomes a
`NodeError`: one sentence that says what is wrong, a hint that says what to do, and an exit code.
The command line prints `error: <message> (<hint>)` and nothing else; a traceback is for bugs.
What each code means is in `EXIT_CODES`, and the same in docs/reference/config.md.

The other packages raise their own errors and know nothing of exit codes; `translate` maps them. It
looks their base classes up among the modules that are already loaded (an error cannot come from a
module that is not), so that `prime-node --help` imports none of them.
"""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass
from os import PathLike

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INPUT = 3
EXIT_UNREACHABLE = 4
EXIT_RESOURCE = 5
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

EXIT_CODES = {
    0: "done",
    EXIT_FAILED: "it ran and failed: a job failed, a check did not hold, nobody reads the output",
    EXIT_USAGE: "the command line is wrong: an unknown option, a missing argument",
    EXIT_INPUT: "bad input: settings, network file, key file, prompts file, unknown model",
    EXIT_UNREACHABLE: "unreachable: bootstrap peer, chain, another node's HTTP",
    EXIT_RESOURCE: "taken or lacking: port, data folder, memory, disk, a package's name",
    EXIT_BUG: "a bug in prime-node; run again with `--debug`",
    EXIT_INTERRUPTED: "interrupted by Ctrl-C",
}
"""Every exit code of `prime-node`; scripts rely on them."""


class NodeError(Exception):
    """Base of every error of the `node` package: what is wrong, and what to do about it."""

    default_exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str = "", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = self.default_exit_code if exit_code is None else exit_code

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(NodeError):
    """The user's input is wrong: a file, a value, a name."""

    default_exit_code = EXIT_INPUT


class UnreachableError(NodeError):
    """Something on the network does not answer."""

    default_exit_code = EXIT_UNREACHABLE


class ResourceError(NodeError):
    """A port, folder or amount of memory is taken or lacking."""

    default_exit_code = EXIT_RESOURCE


_HINTS = {
    errno.EACCES: "check who may write there",
    errno.EPERM: "check who may write there",
    errno.EROFS: "the disk is mounted read-only",
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or have the quota raised",
    errno.EIO: "check the disk",
    errno.ENOLCK: "the file system has no locks; choose another one",
    errno.EOPNOTSUPP: "the file system cannot do this; choose another one",
    errno.EMFILE: "raise the limit of open files: ulimit -n",
    errno.ENFILE: "the system has too many open files",
    errno.ENOMEM: "there is not enough memory",
    errno.EAGAIN: "the system has too many processes or threads; see ulimit -u",
}
"""What the system may lack whatever people type, and what to do about it."""


def system_error(
    where: str | PathLike[str],
    doing: str,
    exc: OSError,
    *,
    wrong: type[InputError] = InputError,
    hint: str = "",
) -> NodeError:
    """The error for what the system refuses: `doing` like "cannot write".

    A `ResourceError` where the system lacks something; where the path is `wrong`, that error, with
    this `hint`.
    """
    reason = exc.strerror or str(exc) or type(exc).__name__
    message = f"{where}: {doing}: {reason}" if doing else f"{where}: {reason}"
    lack = _HINTS.get(exc.errno or 0)
    return wrong(message, hint) if lack is None else ResourceError(message, lack)


@dataclass(frozen=True)
class _Foreign:
    """One row of the translation table; the first row whose class matches wins."""

    module: str
    name: str
    exit_code: int
    hint: str = ""


_TRANSLATION: tuple[_Foreign, ...] = (
    _Foreign("p2p.errors", "ListenFailed", EXIT_RESOURCE, "choose another --listen"),
    _Foreign("p2p.errors", "BootstrapFailed", EXIT_UNREACHABLE, "check --bootstrap"),
    _Foreign("p2p.errors", "PeerUnreachable", EXIT_UNREACHABLE),
    _Foreign("p2p.errors", "RequestTimeout", EXIT_UNREACHABLE),
    _Foreign("p2p.errors", "ConfigError", EXIT_INPUT),
    _Foreign("p2p.errors", "InvalidPeerId", EXIT_INPUT),
    _Foreign("p2p.errors", "P2PError", EXIT_FAILED),
    _Foreign("chain.errors", "ChainUnreachable", EXIT_UNREACHABLE),
    _Foreign("chain.errors", "PortInUse", EXIT_RESOURCE),
    _Foreign("chain.errors", "StoreError", EXIT_RESOURCE),
    _Foreign("chain.errors", "WrongChain", EXIT_INPUT),
    _Foreign("chain.errors", "InvalidInput", EXIT_INPUT),
    _Foreign("chain.errors", "InvalidDeployment", EXIT_INPUT),
    _Foreign("chain.errors", "ChainError", EXIT_FAILED),
    _Foreign("pipeline.models.errors", "SourceUnavailable", EXIT_UNREACHABLE),
    _Foreign("pipeline.models.errors", "StoreUnusable", EXIT_RESOURCE),
    _Foreign("pipeline.models.errors", "ModelError", EXIT_INPUT),
    _Foreign("pipeline.planner.types", "CannotPlan", EXIT_RESOURCE),
    _Foreign("pipeline.planner.types", "PlannerError", EXIT_INPUT),
    _Foreign("pipeline.engine.errors", "EngineError", EXIT_FAILED),
    _Foreign("pipeline.dataplane.errors", "EdgeError", EXIT_FAILED),
    _Foreign("proofs.errors", "ProofError", EXIT_FAILED),
)
"""A row more special than another stands above it."""


def translate(exc: BaseException) -> NodeError | None:
    """The `NodeError` to show for `exc`, or None when `exc` is a bug (or not an error at all).

    A group of exceptions (trio nurseries raise those) is shown by its first member, as long as
    every member is known: one that is not is a bug, and must not hide behind the others.
    """
    if isinstance(exc, NodeError):
        return exc
    if isinstance(exc, BaseExceptionGroup):
        shown = [translate(member) for member in exc.exceptions]
        known = [error for error in shown if error is not None]
        return known[0] if len(known) == len(shown) else None
    for row in _TRANSLATION:
        base = getattr(sys.modules.get(row.module), row.name, None)
        if isinstance(base, type) and isinstance(exc, base):
            return NodeError(str(exc), row.hint, row.exit_code)
    if isinstance(exc, OSError) and exc.errno in _HINTS:
        return system_error(exc.filename or "the system", "", exc)
    if isinstance(exc, MemoryError):
        return ResourceError("there is not enough memory", "close something, or lower --memory")
    return None


def is_interrupt(exc: BaseException) -> bool:
    """Whether `exc` is Ctrl-C, alone or anywhere within a group."""
    if isinstance(exc, BaseExceptionGroup):
        return any(is_interrupt(member) for member in exc.exceptions)
    return isinstance(exc, KeyboardInterrupt)
