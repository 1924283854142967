"""Jobs that cannot work, in a pool of real roles: they end with the reason, and others go on."""

from __future__ import annotations

import json
from typing import Any

import httpx

from node.http import create_app
from node.lifecycle import Lifecycle, NodeState
from node.metrics import NodeMetrics
from node.prompts import Prompt
from node.roles.assembly import Roles
from node.roles.orchestrator.coordinator.units import UnitState
from node.runtime_view import RuntimeView
from node.storage.pruning import Pruner
from pipeline.engine.control.messages import Failed
from tests.adversarial.harness import reached, until

NAN = "hidden states after layers 10-30 are not finite"


def view_of(network: Any) -> RuntimeView:
    life = Lifecycle()
    for state in (NodeState.REGISTERED, NodeState.SERVING):
        life.to(state)
    roles = Roles(network.boss.follower, None, None, network.orchestrator, 7)
    context = network.boss.context
    pruner = Pruner((), lambda: "", context.log)
    return RuntimeView(context, roles, life, (), pruner)


async def test_a_job_that_fails_has_the_engines_reason_and_the_next_one_is_done(net) -> None:
    async with net() as network:
        view, pool = view_of(network), network.orchestrator.pool
        network.engine(0).generate = False
        prompts = [{"prompt": "p"}, {"prompt": "p", "max_tokens": 600}, {"prompt": "p", "id": "c"}]
        app = create_app(view, token="t", metrics=NodeMetrics(), bound_host="127.0.0.1")
        headers = {"Authorization": "Bearer t", "Content-Type": "application/jsonl"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1", headers=headers
        ) as client:
            lines = b"".join(json.dumps(prompt).encode() + b"\r\n" for prompt in prompts)
            answer = await client.post("/v1/jobs?key=bad", content=lines)
            other = await client.post("/v1/jobs?key=bad", content=lines + lines)
            broken = await client.post("/v1/jobs?key=broken", content=lines + b"{")
        assert (other.status_code, other.json()["error"]["code"]) == (422, "key_taken")
        assert (broken.status_code, broken.json()["error"]["code"]) == (422, "bad_prompt")
        taken = answer.json()
        assert (answer.status_code, taken["accepted"], taken["refused"]) == (202, 2, 1)
        assert "over the 512 tokens that this pool has" in taken["refusals"][0]["reason"]
        job_id = taken["job_id"]
        assert list(network.orchestrator.ledger.jobs) == [job_id]
        units = await network.orchestrator.units_of(job_id)
        for _ in range(3):
            for unit in units:
                await until(
                    network.orchestrator,
                    lambda unit=unit: (
                        unit.unit_id not in pool.units
                        or pool.units[unit.unit_id].state is UnitState.ASSIGNED
                    ),
                )
            ids = tuple(unit.sequences[0].sequence_id for unit in units)
            generation = network.group.generation
            body = Failed(generation=generation, sequence_ids=ids, reason=NAN)
            await network.engine(1).emit("failed", body)
            await until(
                network.orchestrator,
                lambda generation=generation: all(
                    u.generation != generation for u in pool.units.values()
                ),
            )
        for unit in units:
            await reached(network.orchestrator, unit, UnitState.EXPIRED)
        found = await view.job(job_id, 0, 10)
        assert found is not None
        assert (found.state, found.prompts, found.refused, found.failed) == ("failed", 2, 1, 2)
        assert found.error == f"failed: {NAN}"
        assert [(f.index, f.id, f.reason) for f in found.failures] == [
            (0, "0", f"failed: {NAN}"),
            (2, "c", f"failed: {NAN}"),
        ]
        assert (await view.job(job_id, 0, 1)).next == 2
        assert (await view.job(job_id, 2, 1)).next is None
        network.engine(0).generate = True
        good = (Prompt.model_validate({"prompt": "p", "max_tokens": 4}),)
        next_job = (await network.orchestrator.submit(good, "good")).job_id
        (unit,) = await network.orchestrator.units_of(next_job)
        done = await reached(network.orchestrator, unit, UnitState.ACCEPTED)
        assert done.attempt == 0
        assert all(member.strikes == 0 for member in pool.members.values())
