"""What must be true at the end of a simulation. Each check says what it looked at.

They are the promises of the README, judged from the outside: HTTP answers, files, the chain's
balances and the processes of this machine, never from what a node thinks of itself.
"""

from __future__ import annotations

from itertools import pairwise

from node.simulation.options import CRASH
from node.simulation.outcome import Check, SimulationOutcome


def run_checks(outcome: SimulationOutcome) -> list[Check]:
    """All checks that apply to this simulation."""
    checks = [
        _processes(outcome),
        _discovery(outcome),
        _slices(outcome),
        _completed(outcome),
        _proofs(outcome),
        _settled(outcome),
        _paid(outcome),
        _blame(outcome),
        _slashed(outcome),
        _clean(outcome),
    ]
    return [check for check in checks if check is not None]


def dishonest_names(outcome: SimulationOutcome) -> set[str]:
    """Workers that cheated. A wrong seed is cheating only at a last stage, which samples; and no
    cheating shows at a spare that never worked."""
    stages = outcome.first_group.get("stages", [])
    names = names_by_peer(outcome)
    in_ring = [names.get(stage["peer_id"], "") for stage in stages]
    return {
        fault.node
        for fault in outcome.options.faults
        if fault.kind != CRASH
        and fault.node in (in_ring[-1:] if fault.kind == "wrong-seed" else in_ring)
    }


def crashed_names(outcome: SimulationOutcome) -> set[str]:
    """Nodes that were killed on purpose."""
    return {fault.node for fault in outcome.options.faults if fault.kind == CRASH}


def _processes(outcome: SimulationOutcome) -> Check:
    failed = outcome.failed_children
    count = len(outcome.network.running) - len(failed)
    return Check("every process ran to the end", not failed, "; ".join(failed) or f"{count} ran")


def _discovery(outcome: SimulationOutcome) -> Check:
    options = outcome.options
    wanted = 1 + options.workers + options.validators - len(crashed_names(outcome))
    seen = len(outcome.nodes)
    return Check("nodes found one another", seen >= wanted, f"{seen} records over DHT and gossip")


def _slices(outcome: SimulationOutcome) -> Check:
    group = outcome.first_group
    stages = group.get("stages", [])
    wanted = outcome.options.stages or outcome.options.workers
    ranges = [(stage["first_layer"], stage["last_layer"]) for stage in stages]
    contiguous = bool(ranges) and ranges[0][0] == 0
    contiguous = contiguous and all(a[1] == b[0] for a, b in pairwise(ranges))
    text = ", ".join(f"{first}–{last - 1}" for first, last in ranges) or "no group"
    held = contiguous and len(stages) == wanted
    return Check(f"the model was cut into {wanted} slices", held, f"layers {text}")


def _completed(outcome: SimulationOutcome) -> Check:
    prompts = len(outcome.options.prompts)
    seen = {(row["prompt_id"], row["unit_id"]) for row in outcome.rows}
    held = len(outcome.rows) == len(seen) == prompts and all(
        row["completion"] or row["finish_reason"] == "eos" for row in outcome.rows
    )
    return Check(
        "every prompt was completed once",
        held,
        f"{len(outcome.rows)} rows for {prompts} prompts, job {outcome.job.get('state', '?')}",
    )


def _proofs(outcome: SimulationOutcome) -> Check:
    rows = outcome.rows
    proven = [
        row
        for row in rows
        if row["verdict"]["accepted"] and all(stage["proofs"] for stage in row["stages"])
    ]
    proofs = sum(len(stage["proofs"]) for row in rows for stage in row["stages"])
    held = bool(rows) and len(proven) == len(rows)
    return Check("every stage proved, the validator accepted", held, f"{proofs} TOPLOC proofs")


def _settled(outcome: SimulationOutcome) -> Check:
    rows = outcome.rows
    settled = [row for row in rows if row["state"] == "settled" and row["receipt_transaction"]]
    roots = {row["receipt_transaction"] for row in settled}
    held = bool(rows) and len(settled) == len(rows)
    return Check("receipts were settled on chain", held, f"{len(roots)} epoch root(s) posted")


def earned(outcome: SimulationOutcome) -> dict[str, int]:
    """What each worker's provider gained from the settlement, in the smallest unit."""
    return {name: outcome.after.get(name, 0) - before for name, before in outcome.before.items()}


def _paid(outcome: SimulationOutcome) -> Check:
    """Whoever has work in an accepted row was paid; whoever is dishonest was not."""
    names = names_by_peer(outcome)
    gains = earned(outcome)
    worked = {names.get(s["peer_id"], "?") for row in outcome.rows for s in row["stages"]}
    missing = sorted(name for name in worked if gains.get(name, 0) <= 0)
    wrongly = sorted(name for name in dishonest_names(outcome) if gains.get(name, 0) != 0)
    held = bool(worked) and not missing and not wrongly
    text = f"{sum(gain > 0 for gain in gains.values())} workers claimed their rewards"
    if missing:
        text = f"not paid: {', '.join(missing)}"
    if wrongly:
        text = f"paid though dishonest: {', '.join(wrongly)}"
    return Check("honest work was paid, and nothing else", held, text)


def _blame(outcome: SimulationOutcome) -> Check | None:
    names = names_by_peer(outcome)
    blamed = {names.get(item["peer_id"], item["peer_id"]) for item in outcome.rejections}
    blamed.discard("")
    guilty = dishonest_names(outcome)
    told = {fault.node for fault in outcome.options.faults if fault.kind != CRASH}
    if not guilty and not outcome.rejections:
        return Check("nobody was blamed", True, "no unit was rejected")
    text = f"blamed: {', '.join(sorted(blamed)) or 'nobody'}; {len(outcome.rejections)} rejections"
    return Check("the dishonest were named, and nobody else", guilty <= blamed <= told, text)


def slashed(outcome: SimulationOutcome) -> dict[str, int]:
    """Who lost how much of its stake, in the smallest unit."""
    after = outcome.stakes_after
    losses = {n: before - after.get(n, before) for n, before in outcome.stakes_before.items()}
    return {name: loss for name, loss in losses.items() if loss}


def _slashed(outcome: SimulationOutcome) -> Check:
    """Stake is taken from the dishonest only; not every cheat is convicted (threat model)."""
    lost = slashed(outcome)
    told = {fault.node for fault in outcome.options.faults if fault.kind != CRASH}
    text = ", ".join(f"{name} lost {loss / 10**18:.3f}" for name, loss in lost.items())
    return Check("no honest stake was slashed", lost.keys() <= told, text or "nobody lost stake")


def _clean(outcome: SimulationOutcome) -> Check:
    left = outcome.left_running
    return Check("nothing is left running", not left, "; ".join(left) or "all processes are gone")


def names_by_peer(outcome: SimulationOutcome) -> dict[str, str]:
    """Name of each simulated node by peer id, as far as records and rows tell."""
    addresses = {node.address: name for name, node in outcome.network.nodes.items()}
    known = {n["peer_id"]: addresses.get(n["address"], "?") for n in outcome.nodes}
    for row in outcome.rows:
        for stage in row["stages"]:
            known[stage["peer_id"]] = addresses.get(stage["address"], "?")
    return known
