"""`prime-node submit`: hand a prompts file to an orchestrator."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.options import DataDirOption, JsonOption
from node.console.output import print_json, say

if TYPE_CHECKING:
    from node.cli.operating.api_client import ApiClient
    from node.prompts import Prompt

POLL_SECONDS = 0.5
MAX_COMPLETION = 2**20
"""Characters of one that are shown; `--json` and `export` have all of them."""


def command(
    prompts: Annotated[Path, typer.Argument(help="A JSON Lines file of prompts.")],
    url: Annotated[str | None, typer.Option("--url", help="The orchestrator's HTTP URL.")] = None,
    data_dir_: DataDirOption = None,
    key: Annotated[
        str, typer.Option("--key", help="Submitting again under the same key is the same job.")
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the completions.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Send the prompts of a file to an orchestrator as one job.

    Each line of the file is a JSON object: {"prompt": "..."} or {"messages": [{"role": "user",
    "content": "..."}]}, with optional id, max_tokens, temperature, top_p, top_k, seed and stop. A
    line that is wrong is reported with its number and nothing is sent.

    Example (the orchestrator runs on this machine with data folder ~/orchestrator):

        prime-node submit prompts.jsonl --data-dir ~/orchestrator --wait

    You should see the job's id, a progress bar, and every completion as it was accepted.
    """
    from node.cli.operating.api_client import connect
    from node.prompts import job_body, load_prompts

    checked = load_prompts(prompts)
    with connect(url, data_dir_, with_token=True) as client:
        answer = client.post("/v1/jobs", job_body(checked, key))
        job_id = str(answer["job_id"])
        if not wait:
            shown = f"job {job_id}: {len(checked)} prompts accepted"
            print_json(answer) if as_json else say(shown)
            return
        job = _wait(client, job_id)
    if as_json:
        print_json(job)
    else:
        _show(checked, job)
    if job["state"] == "failed":
        from node.errors import NodeError

        raise NodeError(f"job {job_id} failed: {job['error']}")


def _wait(client: ApiClient, job_id: str) -> dict[str, Any]:
    """Ask for the job until it ends; plain HTTP has no event to wait for, so this polls."""
    from node.console.progress import shown_progress

    with shown_progress() as report:
        while True:
            job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}")
            report("completed", job["completed"], job["prompts"])
            if job["state"] in ("finished", "failed"):
                return job
            time.sleep(POLL_SECONDS)


def _show(prompts: Sequence[Prompt], job: dict[str, Any]) -> None:
    for result in sorted(job["results"], key=lambda item: item["index"]):
        prompt = prompts[result["index"]]
        say()
        asked = prompt.messages[-1].content.partition("\n")[0]
        say(f"{result['id'] or result['index']}: {asked}")
        say(result["text"], lines=True, limit=MAX_COMPLETION)
    say()
    say(
        f"job {job['job_id']}: {job['completed']} of {job['prompts']} completed, "
        f"{job['accepted']} accepted, {job['tokens']} tokens"
    )
