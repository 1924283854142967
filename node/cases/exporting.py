"""Making a case file from a validator's data folder (`proofs.verdict.casefile`).

Everything is there already: bundles in `blobs/bundles/`, revealed rows in `blobs/`, verdicts
and inquiries in the journal. The node may be running.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from node.config.datadir import DataDir
from node.config.networkfile import NetworkFile
from node.config.profiles import load_profile
from node.config.schema import NodeConfig
from node.errors import InputError
from node.journal.reader import read_newest
from node.onchain.receipt_domain import NO_CHAIN
from node.roles.validator.journal_events import AskedStage, LimitsUsed, RowsAsked, VerdictSigned
from node.roles.validator.keeping.store import bundles_folder
from node.storage.names import BUNDLE, ROWS
from proofs.encoding.eip712 import Domain
from proofs.encoding.signing import checksum_address
from proofs.errors import ProofError
from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.named import is_builtin
from proofs.verdict.casefile import AskedRows, CaseFile

MIN_PREFIX = 8


def find_bundle(data: DataDir, prefix: str) -> UnitBundle:
    """The newest bundle whose own id or unit id begins with `prefix` (hex). Raises InputError."""
    wanted = prefix.lower()
    if len(wanted) < MIN_PREFIX:
        raise InputError(f"{prefix!r} is too short", f"give at least {MIN_PREFIX} hex digits")
    for bundle in bundles_in(data, newest_first=True):
        ids = (bundle.unit_id.hex(), bundle.content_id.hex())
        if any(known.startswith(wanted) for known in ids):
            return bundle
    raise InputError(
        f"{data.path}: no bundle of {prefix}", "prime-node status lists units; ask a validator's"
    )


def bundles_in(data: DataDir, newest_first: bool = False) -> Iterator[UnitBundle]:
    """The bundles of a folder by age, one in memory at a time; damaged files are left out."""
    paths = sorted(
        bundles_folder(data.blobs).glob(f"[!.]*{BUNDLE}"),
        key=lambda path: path.stat().st_mtime,
        reverse=newest_first,
    )
    return (bundle for bundle in map(_read_bundle, paths) if bundle is not None)


def make_case(config: NodeConfig, data: DataDir, bundle: UnitBundle) -> CaseFile:
    """The case of a bundle. Raises InputError where a part cannot be read."""
    key = bundle.content_id.hex()
    verdicts, asked = [], []
    which = config.validator.thresholds
    for event in read_newest(data.journal, VerdictSigned, RowsAsked, LimitsUsed, key=key):
        match event:
            case VerdictSigned(verdict=verdict):
                verdicts.append(verdict)
            case LimitsUsed(limits=limits):
                which = limits or which
            case RowsAsked(stages=stages):
                asked += [_asked(data, item) for item in stages]
    domain = _domain(config)
    try:
        case = CaseFile(
            chain_id=domain.chain_id,
            contract=domain.verifying_contract,
            bundle=bundle.to_bytes(),
            verdicts=tuple(verdicts),
            thresholds=which if is_builtin(which) else "",
            profile=b"" if is_builtin(which) else load_profile(which, data.path).to_bytes(),
            asked=tuple(asked),
        )
        case.to_bytes()
    except (ProofError, ValueError) as exc:
        raise InputError(f"the case of {key[:12]} cannot be written: {exc}") from exc
    return case


def _asked(data: DataDir, item: AskedStage) -> AskedRows:
    path = data.blobs / f"{item.digest.hex()}{ROWS}"
    rows = b""
    if item.error is not None:
        try:
            rows = path.read_bytes()
        except OSError as exc:
            raise InputError(f"{path}: the revealed rows are gone: {exc.strerror}") from exc
    return AskedRows(stage=item.stage, index=item.index, digest=item.digest, rows=rows)


def _domain(config: NodeConfig) -> Domain:
    if config.network_file is None:
        return NO_CHAIN
    chain = NetworkFile.load(config.network_file).chain
    if chain is None:
        return NO_CHAIN
    contract = bytes.fromhex(chain.contracts["ReceiptSettlement"][2:])
    return Domain(chain_id=chain.chain_id, verifying_contract=checksum_address(contract))


def _read_bundle(path: Path) -> UnitBundle | None:
    try:
        return UnitBundle.from_bytes(path.read_bytes())
    except (OSError, ProofError):
        return None
