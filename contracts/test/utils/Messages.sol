// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Vm} from "./Vm.sol";

/// @notice What is signed, as EIP-712 spelt out here anew rather than taken from the contracts under
/// test.
abstract contract Messages {
    Vm internal constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    function nodeHash(address provider, address node, uint256 nonce, uint256 deadline)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                keccak256(
                    "NodeRegistration(address provider,address node,uint256 nonce,uint256 deadline)"
                ),
                provider,
                node,
                nonce,
                deadline
            )
        );
    }

    function inviteHash(uint256 poolId, address node, uint256 nonce, uint256 deadline)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                keccak256("PoolInvite(uint256 poolId,address node,uint256 nonce,uint256 deadline)"),
                poolId,
                node,
                nonce,
                deadline
            )
        );
    }

    function rootStructHash(IReceiptSettlement.EpochRoot memory root)
        internal
        pure
        returns (bytes32)
    {
        bytes memory tail = abi.encode(
            root.receiptCount, root.totalUnits, root.rate, root.totalPayout, root.dataHash
        );
        return keccak256(
            bytes.concat(
                abi.encode(
                    keccak256(
                        "EpochRoot(uint256 poolId,uint64 epoch,bytes32 receiptsRoot,bytes32 payoutsRoot,uint64 receiptCount,uint128 totalUnits,uint128 rate,uint128 totalPayout,bytes32 dataHash)"
                    ),
                    root.poolId,
                    root.epoch,
                    root.receiptsRoot,
                    root.payoutsRoot
                ),
                tail
            )
        );
    }

    function receiptStructHash(IReceiptSettlement.Receipt memory receipt)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                keccak256(
                    "Receipt(bytes32 jobId,address worker,uint256 poolId,uint32 stage,uint32 seq,address counterparty,uint64 epoch,uint128 units,bytes32 commitment)"
                ),
                receipt
            )
        );
    }

    function convictionStructHash(IReceiptSettlement.Conviction memory conviction)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                keccak256("Conviction(uint256 poolId,address node,bytes32 jobId,bytes32 evidence)"),
                conviction.poolId,
                conviction.node,
                conviction.jobId,
                conviction.evidence
            )
        );
    }

    function typedDigest(address verifier, bytes32 structHash) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
                ),
                keccak256("PrimeNode"),
                keccak256("1"),
                block.chainid,
                verifier
            )
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, structHash));
    }

    function signTyped(uint256 key, address verifier, bytes32 structHash)
        internal
        view
        returns (bytes memory)
    {
        return signDigest(key, typedDigest(verifier, structHash));
    }

    function signDigest(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }
}
