"""Case files of a simulation: every verdict can be checked again after the network is gone."""

from __future__ import annotations

from pathlib import Path

from node.cases.exporting import bundles_in, make_case
from node.config.files import write_atomically
from node.config.schema import load_config
from node.simulation.network import SimulatedNetwork
from proofs.verdict.casefile import SUFFIX
from proofs.verdict.message import SignedVerdict

FOLDER = "cases"


def write_cases(network: SimulatedNetwork, output: Path) -> list[Path]:
    """A file for each bundle that the first validator rejected and for the first that it accepted,
    in `output`/cases, named by unit and attempt. Raises InputError."""
    validators = network.options.validator_names
    if not validators:
        return []
    data = network.nodes[validators[0]].data
    config = load_config({"data_dir": data.path, "network_file": network.network_file})
    written: list[Path] = []
    accepted = False
    for bundle in bundles_in(data):
        case = make_case(config, data, bundle)
        verdicts = [SignedVerdict.from_bytes(body).verdict for body in case.verdicts]
        if not verdicts or (verdicts[0].accepted and accepted):
            continue
        accepted |= verdicts[0].accepted
        word = "accepted" if verdicts[0].accepted else "rejected"
        name = f"{word}-{bundle.unit_id.hex()[:12]}-{bundle.generation}{SUFFIX}"
        path = output / FOLDER / name
        write_atomically(path, case.to_bytes(), 0o600)
        written.append(path)
    return written
