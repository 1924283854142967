// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Handler} from "./Handler.sol";
import {Vm} from "../utils/Vm.sol";

/// @notice That the invariant tests' handler gets everywhere: an invariant says little about what
/// never happens.
contract HandlerTest {
    Vm private constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);
    uint256 private constant STEPS = 800;

    function test_every_action_comes_to_pass() public {
        Handler handler = new Handler();
        for (uint256 i = 0; i < STEPS; i++) {
            uint256 seed = uint256(keccak256(abi.encode(i)));
            step(handler, seed % 26, seed >> 32, uint256(keccak256(abi.encode(seed))));
        }
        bytes32[28] memory deeds = [
            bytes32("stake"),
            "unstake",
            "withdraw",
            "addNode",
            "removeNode",
            "grant",
            "revoke",
            "convict",
            "join",
            "leave",
            "eject",
            "readmit",
            "fund",
            "end",
            "reclaim",
            "claimTime",
            "post",
            "noQuorum",
            "answer",
            "noAnswer",
            "uphold",
            "moot",
            "cancel",
            "prove",
            "claim",
            "disputePayout",
            "disputeReceipt",
            "disputeOmission"
        ];
        for (uint256 i = 0; i < deeds.length; i++) {
            vm.assertGe(handler.done(deeds[i]), 1, string(abi.encodePacked(deeds[i])));
        }
    }

    // forge-lint: disable-start(unsafe-typecast)
    function step(Handler handler, uint256 action, uint256 a, uint256 b) private {
        if (action <= 2) handler.postRoot(a, b);
        else if (action <= 4) handler.dispute(a, b);
        else if (action == 5) handler.answer(a);
        else if (action == 6) handler.uphold(a);
        else if (action == 7) handler.cancelRoot(a, b);
        else if (action == 8) handler.claimWork(a);
        else if (action <= 10) handler.pass(uint16(a));
        else if (action == 11) handler.stake(a, uint96(b));
        else if (action == 12) handler.unstake(a, uint96(b));
        else if (action == 13) handler.withdraw(a);
        else if (action == 14) handler.addNode(a, uint8(b));
        else if (action == 15) handler.removeNode(a);
        else if (action == 16) handler.grantOrRevoke(a);
        else if (action == 17) handler.blacklist(a, b % 4 == 0);
        else if (action == 18) handler.convict(a, b);
        else if (action <= 20) handler.join(a, b);
        else if (action == 21) handler.leave(a);
        else if (action == 22) handler.ejectOrReadmit(a, b);
        else if (action == 23) handler.fundPool(a, uint96(b));
        else if (action == 24) handler.endPool(a);
        else handler.claimTime(a, b);
        if (action == 24) handler.reclaim(b);
    }
    // forge-lint: disable-end(unsafe-typecast)
}
