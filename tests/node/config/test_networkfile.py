"""The network file: round trip, updates, and what a broken one is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.config.networkfile import ChainTable, NetworkFile, PoolTable
from node.errors import InputError

PEER = "/ip4/127.0.0.1/tcp/4001/p2p/16Uiu2HAmTestPeerTestPeer"
ADDRESS = "0x" + "ab" * 20
CHAIN = ChainTable(
    rpc_url="http://127.0.0.1:8545",
    chain_id=31337,
    faucet_url="http://127.0.0.1:8545/faucet",
    default_domain=1,
    block=2,
    contracts={"PrimeNetwork": ADDRESS},
)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "network.toml"
    network = NetworkFile(
        name="test",
        bootstrap=(PEER,),
        chain=CHAIN,
        pool=PoolTable(id=7, domain=1, orchestrator=ADDRESS),
    )
    network.save(path)
    assert NetworkFile.load(path) == network
    assert [entry.name for entry in path.parent.iterdir()] == ["network.toml"]


def test_parts_are_updated_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "network.toml"
    NetworkFile.load_or_new(path).updated(chain=CHAIN).save(path)
    NetworkFile.load(path).updated(bootstrap=(PEER,)).save(path)
    loaded = NetworkFile.load(path)
    assert loaded.chain == CHAIN
    assert loaded.bootstrap == (PEER,)
    assert loaded.pool is None


def test_the_deployment_has_the_names_that_the_chain_reads() -> None:
    assert CHAIN.deployment() == {
        "chain_id": 31337,
        "addresses": {"PrimeNetwork": ADDRESS},
        "default_domain": 1,
        "block": 2,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bootstrp = []", r"unknown key bootstrp \(did you mean bootstrap\?\)"),
        ('bootstrap = ["1.2.3.4:5"]', "bootstrap.0: a bootstrap address is a multiaddr"),
        ('[chain]\nrpc_url = "ftp://x"\nchain_id = 1', "chain.rpc_url: a URL is like"),
        ('[chain]\nrpc_url = "http://x"', "chain.chain_id: Field required"),
        (
            '[chain]\nrpc_url = "http://x"\nchain_id = 1\n[chain.contracts]\nA = "0x12"',
            "chain.contracts.A",
        ),
        ("name = 5", "name: "),
        ("chain = 5", "chain is a section"),
    ],
)
def test_a_broken_file_is_named_with_the_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "network.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        NetworkFile.load(path)
    assert str(path) in str(caught.value)


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "network.toml"
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(InputError, match="larger than"):
        NetworkFile.load(path)


def test_an_unwritable_place_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        NetworkFile().save(tmp_path / "file" / "network.toml")
