"""`prime-node submit`: hand a prompts file to an orchestrator."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.options import DataDirOption, JsonOption
from node.console.output import print_json, say

if TYPE_CHECKING:
    from node.cli.operating.api_client import ApiClient

POLL_SECONDS = 0.5
PATIENCE = 5.0
MAX_NAMED = 20
"""Refused prompts that are named; `--json` has more of them."""
MAX_COMPLETION = 2**20
"""Characters of one that are shown; `--json` and `export` have all of them."""


def command(
    prompts: Annotated[Path, typer.Argument(help="A JSON Lines file of prompts.")],
    url: Annotated[str | None, typer.Option("--url", help="The orchestrator's HTTP URL.")] = None,
    data_dir_: DataDirOption = None,
    key: Annotated[
        str, typer.Option("--key", help="Submitting again under the same key is the same job.")
    ] = "",
    all_or_nothing: Annotated[
        bool,
        typer.Option("--all-or-nothing", help="Send nothing where one prompt cannot be run."),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the completions.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Send the prompts of a file to an orchestrator as one job.

    Each line of the file is a JSON object: {"prompt": "..."} or {"messages": [{"role": "user",
    "content": "..."}]}, with optional id, max_tokens, temperature, top_p, top_k, seed and stop. A
    line that is wrong is reported with its number and nothing is sent. Prompts that the pool cannot
    run (too long, refused by the model's chat template) are named, and the others run.

    Example (the orchestrator runs on this machine with data folder ~/orchestrator):

        prime-node submit prompts.jsonl --data-dir ~/orchestrator --wait

    You should see the job's id, a progress bar, and every completion as it was accepted.
    """
    from node.cli.operating.api_client import ApiError, connect
    from node.errors import NodeError
    from node.prompts import prompt_line, read_prompts

    key = key or _content_key(prompts)
    with connect(url, data_dir_, with_token=True) as client:
        lines = map(prompt_line, read_prompts(prompts))
        whole = {"all_or_nothing": "true"} if all_or_nothing else {}
        try:
            answer = client.post_lines("/v1/jobs", lines, key=key, **whole)
        except ApiError as exc:
            if not as_json:
                _say_refused(exc.details)
            raise
        job_id = str(answer["job_id"])
        if as_json and not wait:
            print_json(answer)
        elif not as_json:
            _say_refused(answer)
            if not wait:
                say(f"job {job_id}: {answer['accepted']} prompts accepted")
        if not wait:
            return
        job = _wait(client, job_id)
        if as_json:
            print_json(client.get(f"/v1/jobs/{job_id}"))
        else:
            _show(client, prompts, job)
    if job["state"] == "failed":
        gone = f"{job['failed']} of {job['prompts']} prompts failed: {job['error']}"
        raise NodeError(f"job {job_id}: {gone}")


def _content_key(path: Path) -> str:
    """A key that follows from the prompts, so that the same file again is the same job. Raises
    `PromptsError`."""
    from node.prompts import PromptsError, prompt_line, read_prompts

    count, digest = 0, hashlib.sha256()
    for prompt in read_prompts(path):
        count += 1
        digest.update(prompt_line(prompt))
    if not count:
        raise PromptsError(f"{path}: no prompts", 'write lines like {"prompt": "Hello"}')
    return digest.hexdigest()


def _say_refused(answer: dict[str, Any]) -> None:
    """Prompts that are not run, and why."""
    listed = answer.get("refusals", [])[:MAX_NAMED]
    for item in listed:
        say(f"prompt {_name(item)} is refused: {item['reason']}")
    if len(listed) < answer.get("refused", 0):
        say(f"... {answer['refused']} prompts are refused in all")


def _name(item: dict[str, Any]) -> str:
    number = str(item["index"] + 1)
    return f"{number} ({item['id']})" if item["id"] else number


def _wait(client: ApiClient, job_id: str, patience: float = PATIENCE) -> dict[str, Any]:
    """Ask for the job until it ends; plain HTTP has no event to wait for, so this polls. What it
    waits for is said once it has lasted `patience` seconds."""
    from node.console.progress import shown_progress

    told, since, waits = "", time.monotonic(), ""
    with shown_progress() as report:
        while True:
            job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}", limit=0)
            report("completed", job["completed"], job["prompts"])
            if job["waits"] != waits:
                waits, since = job["waits"], time.monotonic()
            if waits != told and time.monotonic() - since >= patience:
                told = waits
                say(told, err=True)
            if job["state"] in ("finished", "failed", "cancelled"):
                return job
            time.sleep(POLL_SECONDS)


def _show(client: ApiClient, path: Path, job: dict[str, Any]) -> None:
    """Every completion below its prompt, page by page."""
    from node.prompts import read_prompts

    asked = enumerate(read_prompts(path))
    first: int | None = 0
    while first is not None:
        page = client.get(f"/v1/jobs/{job['job_id']}", first=first)
        for result in page["results"]:
            prompt = next(prompt for index, prompt in asked if index == result["index"])
            line = prompt.messages[-1].content.partition("\n")[0]
            say()
            say(f"{result['id'] or result['index']}: {line}")
            say(result["text"], lines=True, limit=MAX_COMPLETION)
        for item in page["failures"]:
            say()
            say(f"prompt {_name(item)} failed: {item['reason']}")
        first = page["next"]
    say()
    say(
        f"job {job['job_id']}: {job['completed']} of {job['prompts']} completed, "
        f"{job['accepted']} accepted, {job['tokens']} tokens"
    )
