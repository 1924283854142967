"""Logs: JSON for machines, bound context, and nothing secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
import trio

from node.logs import REDACTED, bind, configure_logging


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_carry_what_is_bound() -> None:
    out = io.StringIO()
    configure_logging("json", stream=out)
    log = structlog.get_logger("node")
    with bind(group="ab", stage=1):
        log.info("loaded", seconds=1.5)
    log.warning("alone")
    first, second = lines(out)
    assert (first["event"], first["level"], first["group"], first["stage"]) == (
        "loaded",
        "info",
        "ab",
        1,
    )
    assert first["timestamp"].endswith("Z")
    assert "group" not in second


async def test_tasks_do_not_mix_their_context() -> None:
    out = io.StringIO()
    configure_logging("auto", stream=out)

    async def work(unit: str) -> None:
        with bind(unit=unit):
            await trio.lowlevel.checkpoint()
            structlog.get_logger().info("done", expected=unit)

    async with trio.open_nursery() as nursery:
        for unit in "abcd":
            nursery.start_soon(work, unit)
    assert {line["unit"] for line in lines(out)} == set("abcd")
    assert all(line["unit"] == line["expected"] for line in lines(out))


def test_secrets_and_bytes_are_not_shown() -> None:
    out = io.StringIO()
    configure_logging("json", stream=out)
    structlog.get_logger().info(
        "x",
        passphrase="hunter2",
        api_token="t0ken",
        private_key="aabb",
        key=b"\x01" * 32,
        nested={"node_secret": "s3cret", "list": [{"password": "pass"}]},
        unit_id=b"\xab\xcd",
        blob=b"\x00" * 100,
        tokens=40,
        note="fine",
    )
    text = out.getvalue()
    for secret in ("hunter2", "t0ken", "aabb", "0101", "s3cret", 'pass"'):
        assert secret not in text
    (line,) = lines(out)
    assert line["key"] == REDACTED
    assert line["nested"] == {"node_secret": REDACTED, "list": [{"password": REDACTED}]}
    assert line["unit_id"] == "abcd"
    assert line["blob"].endswith("(100 bytes)")
    assert (line["tokens"], line["note"]) == (40, "fine")


def test_libraries_are_quiet_and_in_the_same_shape() -> None:
    out = io.StringIO()
    configure_logging("json", stream=out)
    logging.getLogger("libp2p.host").error("connection reset")
    logging.getLogger("httpx").info("GET / 200")
    logging.getLogger("httpx").warning("slow")
    logging.getLogger("other.library").info("hello %s", "there")
    first, second = lines(out)
    assert (first["event"], first["level"], first["logger"]) == ("slow", "warning", "httpx")
    assert second["event"] == "hello there"
    configure_logging("json", "debug", stream=out)
    logging.getLogger("libp2p.host").debug("dialling")
    assert lines(out)[-1]["event"] == "dialling"


def test_levels_and_exceptions() -> None:
    out = io.StringIO()
    configure_logging("json", "warning", stream=out)
    log = structlog.get_logger()
    log.info("not shown")
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("failed")
    (line,) = lines(out)
    assert line["exception"][0]["exc_type"] == "ValueError"
    assert line["exception"][0]["exc_value"] == "broken"


def test_people_get_plain_lines() -> None:
    out = io.StringIO()
    configure_logging("console", stream=out)
    structlog.get_logger().info("listening", port=7070)
    assert "listening" in out.getvalue()
    assert "port=7070" in out.getvalue()
    with pytest.raises(json.JSONDecodeError):
        json.loads(out.getvalue())


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_tracebacks_tell_where_and_not_what_the_variables_held(log_format: Any) -> None:
    out = io.StringIO()
    configure_logging(log_format, stream=out)
    try:
        prompt = "a prompt of " + "somebody's"
        raise ValueError(str(len(prompt)))
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "test_tracebacks_tell_where" in out.getvalue()
    assert "a prompt of somebody" not in out.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_colours_are_for_terminals_that_want_them(
    environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = Terminal()
    configure_logging("auto", stream=out)
    structlog.get_logger().info("serving")
    assert ("\x1b[" in out.getvalue()) == coloured
