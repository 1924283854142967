"""Logging: for people on a terminal, for machines as JSON lines, and never a secret.

`configure_logging` sets structlog up for the process and routes the standard library's loggers
(which our dependencies use) through the same renderer, quietened to warnings. Records go to stderr;
stdout is for a command's own output. Where a task works for one peer, group, unit or stage it binds
that with `bind(...)`, and every record below says so (contextvars, so trio tasks do not mix).

Secrets must not reach a log in the first place; a processor redacts what slips through by field
name, and shows other bytes as hex. Tracebacks are plain: the values of local variables would tell
tokens and prompts, and drawing them holds the event loop up for most of a second, which a peer
could ask for with every request that a handler fails on.

A log is worth less than its node: where it cannot be written it is lost (`node.console.streams`).
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from functools import partial
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.contextvars import bound_contextvars
from structlog.tracebacks import ExceptionDictTransformer

from node.console.behind import Behind, may_block
from node.console.clean import clean
from node.console.rotating import RotatingFile
from node.console.streams import Lasting, settle, write_behind

REDACTED = "[redacted]"
MAX_BYTES_SHOWN = 32
MAX_NAME, MAX_VALUE, MAX_TRACEBACK = 100, 4_000, 100_000
"""Characters of a record that people are shown."""
_SECRET_NAME = re.compile(
    r"(^|_)(secret|private_key|passphrase|password|mnemonic|authorization|token|bearer)$"
)
_QUIET = ("hypercorn", "httpx", "httpcore", "web3", "urllib3", "asyncio", "trio", "multiaddr")

bind = bound_contextvars
"""Context manager: `with bind(group="ab12", stage=1): ...`."""


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog processor: hide secret-looking fields, show bytes as hex."""
    for name, value in event.items():
        event[name] = _clean(name, value, depth=4)
    return event


def harmless(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """structlog processor for people's eyes: nothing in the record steers a terminal."""
    return {clean(name, limit=MAX_NAME): _shown(name, value, 4) for name, value in event.items()}


def _shown(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    if depth and isinstance(value, Mapping):
        return {clean(key, limit=MAX_NAME): _shown("", v, depth - 1) for key, v in value.items()}
    if depth and isinstance(value, list | tuple):
        return [_shown("", inner, depth - 1) for inner in value]
    whole = name in ("exception", "stack")
    return clean(value, lines=whole, limit=MAX_TRACEBACK if whole else MAX_VALUE)


def _clean(name: str, value: Any, depth: int) -> Any:
    lowered = name.lower()
    if _SECRET_NAME.search(lowered):
        return REDACTED
    if isinstance(value, bytes | bytearray | memoryview):
        if lowered.endswith("key"):
            return REDACTED
        shown = bytes(value[:MAX_BYTES_SHOWN]).hex()
        return shown if len(value) <= MAX_BYTES_SHOWN else f"{shown}… ({len(value)} bytes)"
    if depth and isinstance(value, Mapping):
        return {key: _clean(str(key), inner, depth - 1) for key, inner in value.items()}
    if depth and isinstance(value, list | tuple):
        return [_clean(name, inner, depth - 1) for inner in value]
    return value


def _lost_lines(count: int, people: bool) -> str:
    said = f"{count} lines of log were lost, since nobody read them"
    return f"{said}\n" if people else json.dumps({"event": said, "level": "warning"}) + "\n"


def _wants_colors(environment: Mapping[str, str]) -> bool:
    """NO_COLOR (https://no-color.org) and TERM=dumb say that colours are not wanted."""
    return not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def configure_logging(
    log_format: Literal["auto", "console", "json"] = "auto",
    level: str = "info",
    stream: TextIO | RotatingFile | None = None,
) -> None:
    """Set logging up for this process (again replaces what was set up before).

    "auto" is console on a terminal and JSON otherwise. `stream` None is stderr.
    """
    chosen = sys.stderr if stream is None else stream
    people = log_format == "console" or (log_format == "auto" and chosen.isatty())
    out: Lasting | Behind = Lasting(chosen)
    if not isinstance(chosen, RotatingFile) and may_block(chosen):
        out = Behind(chosen, partial(_lost_lines, people=people))
    settle()
    write_behind(out if isinstance(out, Behind) else None)
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if people else "iso", utc=not people),
        redact,
    ]
    ending: list[structlog.typing.Processor]
    if people:
        # A traceback becomes text first, since it shows what strangers sent.
        ending = [
            structlog.processors.format_exc_info,
            harmless,
            structlog.dev.ConsoleRenderer(colors=out.isatty() and _wants_colors(os.environ)),
        ]
    else:
        ending = [
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(default=str),
        ]
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, out)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared[:2], structlog.stdlib.add_logger_name, *shared[2:]],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    libp2p_level = number if number <= logging.DEBUG else logging.CRITICAL
    libp2p = logging.getLogger("libp2p")
    libp2p.setLevel(libp2p_level)
    libp2p.propagate = True
