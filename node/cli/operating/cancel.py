"""`prime-node cancel`: begin nothing more of a job."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli.options import DataDirOption, JsonOption
from node.console.output import print_json, say


def command(
    job: Annotated[str, typer.Argument(help="The job's id, as `submit` showed it.")],
    url: Annotated[str | None, typer.Option("--url", help="The orchestrator's HTTP URL.")] = None,
    data_dir_: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel a job: what waits is not begun; what is at work is finished, judged and paid.

    Completions so far stay there to be read, as long as the job is kept. Cancelling twice changes
    nothing.

    Example (the orchestrator runs on this machine with data folder ~/orchestrator):

        prime-node cancel 1f0c9e… --data-dir ~/orchestrator

    You should see how many of its prompts were completed.
    """
    from urllib.parse import quote

    from node.cli.operating.api_client import connect

    path = f"/v1/jobs/{quote(job, safe='')}"
    with connect(url, data_dir_, with_token=True) as client:
        client.delete(path)
        found = client.get(path, limit=0)
    if as_json:
        print_json(found)
        return
    say(
        f"job {found['job_id']}: cancelled; {found['completed']} of {found['prompts']} completed,"
        f" {found['accepted']} accepted"
    )
