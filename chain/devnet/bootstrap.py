"""From a fresh development chain to one with contracts and a stocked faucet, in one call."""

from __future__ import annotations

from pathlib import Path

from chain.deployment.deploying import deploy
from chain.deployment.deployment import Deployment
from chain.deployment.parameters import DeploymentParams
from chain.encoding.artifacts import load_artifact
from chain.endpoint.faucet import faucet_address, register_token, request_funds
from chain.transactions.account import open_account
from chain.transactions.sender import SenderSettings
from proofs.encoding.signing import address_of

FAUCET_TOKENS = 100_000_000 * 10**18


async def deploy_on_devnet(
    rpc_url: str,
    key: bytes,
    database_path: Path | str,
    params: DeploymentParams | None = None,
    *,
    settings: SenderSettings | None = None,
) -> Deployment:
    """Deploy all contracts from `key`, which the faucet funds, and give the faucet tokens to pay.

    Resumable like `deploy`. `key` becomes administrator, federator and owner of the token. Raises
    ChainError.
    """
    await request_funds(rpc_url, address_of(key))
    async with open_account(rpc_url, key, database_path, settings=settings) as account:
        deployment = await deploy(account.rpc, account.manager, params)
        token = deployment.address("PrimeToken")
        faucet = await faucet_address(rpc_url)
        data = load_artifact("PrimeToken").abi.encode("transfer", faucet, FAUCET_TOKENS)
        await account.manager.send(f"stock-faucet/{token}", token, data)
        await register_token(rpc_url, token)
    return deployment
