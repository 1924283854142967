// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Epochs} from "../utils/Epochs.sol";

/// @notice ReceiptSettlement.verifyReceipt and receiptDigest.
contract VerifyReceiptTest is Epochs {
    uint256 private constant COUNTER_KEY = 0xC0;

    function test_both_parties_signed() public view {
        vm.assertTrue(verify(receipt(), NODE_KEY, COUNTER_KEY));
        vm.assertEq(settlement.receiptDigest(receipt()), digestOf(receipt()));
    }

    function test_swapped_foreign_and_missing_signatures_fail() public view {
        vm.assertFalse(verify(receipt(), COUNTER_KEY, NODE_KEY));
        vm.assertFalse(verify(receipt(), 5, COUNTER_KEY));
        vm.assertFalse(verify(receipt(), NODE_KEY, 5));
        IReceiptSettlement.SignedReceipt memory signed =
            signReceipt(receipt(), NODE_KEY, COUNTER_KEY);
        signed.counterSignature = "";
        vm.assertFalse(settlement.verifyReceipt(signed));
        signed = signReceipt(receipt(), NODE_KEY, COUNTER_KEY);
        signed.workerSignature = "";
        vm.assertFalse(settlement.verifyReceipt(signed));
    }

    function test_a_receipt_to_oneself_proves_nothing() public view {
        IReceiptSettlement.Receipt memory own = receipt();
        own.counterparty = NODE;
        vm.assertFalse(verify(own, NODE_KEY, NODE_KEY));
    }

    function test_nobody_is_not_a_party() public view {
        IReceiptSettlement.Receipt memory unsigned = receipt();
        unsigned.counterparty = address(0);
        IReceiptSettlement.SignedReceipt memory signed =
            signReceipt(unsigned, NODE_KEY, COUNTER_KEY);
        signed.counterSignature = new bytes(65);
        vm.assertFalse(settlement.verifyReceipt(signed));
    }

    function test_signatures_cover_every_field_and_the_chain() public {
        IReceiptSettlement.SignedReceipt memory signed =
            signReceipt(receipt(), NODE_KEY, COUNTER_KEY);
        for (uint256 field = 0; field < 7; field++) {
            IReceiptSettlement.Receipt memory other = receipt();
            if (field == 0) other.jobId = 0;
            else if (field == 1) other.poolId++;
            else if (field == 2) other.stage++;
            else if (field == 3) other.seq++;
            else if (field == 4) other.epoch++;
            else if (field == 5) other.units++;
            else other.commitment = 0;
            signed.receipt = other;
            vm.assertFalse(settlement.verifyReceipt(signed));
        }
        signed.receipt = receipt();
        vm.assertTrue(settlement.verifyReceipt(signed));
        vm.chainId(5);
        vm.assertFalse(settlement.verifyReceipt(signed));
    }

    function receipt() private view returns (IReceiptSettlement.Receipt memory) {
        return IReceiptSettlement.Receipt({
            jobId: keccak256("job"),
            worker: NODE,
            poolId: 1,
            stage: 2,
            seq: 3,
            counterparty: vm.addr(COUNTER_KEY),
            epoch: 4,
            units: 5,
            commitment: keccak256("commitment")
        });
    }

    function verify(IReceiptSettlement.Receipt memory value, uint256 worker, uint256 counter)
        private
        view
        returns (bool)
    {
        return settlement.verifyReceipt(signReceipt(value, worker, counter));
    }
}
