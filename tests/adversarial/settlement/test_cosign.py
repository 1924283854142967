"""A validator that others ask to sign epochs: only what its own verdicts say gets its signature."""

from __future__ import annotations

import msgpack
import pytest
import trio

from node.wire.messages.settlement import CosignRequest, FetchedChunk, FetchRequest
from node.wire.methods import COSIGN, FETCH
from node.wire.rpc import serve
from p2p.errors import Refused
from proofs.encoding.leaves import SignedReceipt
from proofs.encoding.signing import recover
from proofs.evidence.bundle import signed_receipts
from proofs.settlement.epoch import build_epoch
from proofs.settlement.epoch_data import MAX_DATA_BYTES, data_hash
from tests.adversarial.harness import eventually
from tests.adversarial.ledger import BUDGET
from tests.adversarial.standins import DOMAIN, POOL, PRICE


async def test_what_the_judge_accepted_it_signs_publishes_and_signs_again(signing) -> None:
    async with signing() as s:
        epoch = s.epoch(await s.accepted(b"one", b"two"))
        root = await s.publish(epoch)
        for _ in range(2):  # an answer that was lost is asked for again
            answer = await s.ask(root)
            assert recover(root.digest(DOMAIN), answer["signature"]) == s.scenario.judge.address
            assert answer["unknown"] == ()
        assert await s.cosigned() == 1
        request = FetchRequest(digest=root.data_hash, offset=0)
        chunk = await s.stranger.ask(s.scenario.judge.peer_id, FETCH, request)
        assert chunk["data"] == epoch.content


async def test_only_staked_validators_may_ask(signing) -> None:
    async with signing() as s:
        root = await s.publish(s.epoch(await s.accepted(b"one")))
        assert await s.refused(root, s.stranger) == "not_a_validator"
        assert await s.refused(root, s.scenario.owner) == "not_a_validator"
        s.scenario.ledger.weights[s.stranger.address] = 0  # the role, but its stake is gone
        assert await s.refused(root, s.stranger) == "not_a_validator"
        s.scenario.ledger.silent.add("validators.weight_of")
        assert await s.refused(root) == "chain"
        assert await s.cosigned() == 0


async def test_bytes_that_are_no_root_are_refused(signing) -> None:
    async with signing() as s:
        good = s.epoch(await s.accepted(b"one")).root.to_bytes()
        for data in (b"", good[:-1], good + b"\x00", b"\xff" * len(good), bytes(4096)):
            assert await s.refused(data) == "bad_root"
        huge, judge = msgpack.packb({"root": bytes(5000)}), s.scenario.judge.peer_id
        assert await s.proposer.refused(judge, COSIGN, huge) == "bad_request"


async def test_data_that_are_not_to_be_had_or_are_others_are_not_signed(signing) -> None:
    async with signing() as s:
        epoch = s.epoch(await s.accepted(b"one"))
        assert await s.refused(epoch.root) == "no_data"
        root = await s.publish(epoch)
        claims = {
            "receipts_root": b"r" * 32,
            "payouts_root": b"p" * 32,
            "receipt_count": 2,
            "total_units": root.total_units + 1,
            "rate": root.rate + 1,
            "total_payout": root.total_payout + 1,
        }
        for name, value in claims.items():
            wrong = root.model_copy(update={name: value})
            assert await s.refused(wrong) == "bad_data", name
        assert await s.cosigned() == 0


async def test_content_that_is_no_canonical_epoch_is_refused(signing) -> None:
    async with signing() as s:
        epoch = s.epoch(await s.accepted(b"one"))
        for content in (
            b"",
            b"\xc1",
            epoch.content + b"\x00",
            epoch.content[:-1],
            epoch.content.replace(b"epoch", b"epocH"),
            b"\xdd\xff\xff\xff\xff",
        ):
            await s.proposer.follower.blobs.put(content)
            root = epoch.root.model_copy(update={"data_hash": data_hash(content)})
            code = await s.refused(root)
            assert code in ("bad_data", "no_data"), content[:16]


async def test_data_of_another_hash_or_without_end_are_not_read_for_long(signing) -> None:
    async with signing() as s:
        epoch = s.epoch(await s.accepted(b"one"))
        answers: dict[str, FetchedChunk | None] = {
            "another hash": FetchedChunk(data=b"y" * 100, total=100),
            "too large": FetchedChunk(data=b"y" * 100, total=MAX_DATA_BYTES + 1),
            "more than it said": FetchedChunk(data=b"y" * 100, total=50),
            "nothing": FetchedChunk(data=b"", total=100),
            "byte by byte": FetchedChunk(data=b"y", total=MAX_DATA_BYTES),
            "refused": None,
        }
        for name, chunk in answers.items():
            asked: list[int] = []

            async def on_fetch(
                peer_id: str,
                request: FetchRequest,
                asked: list[int] = asked,
                chunk: FetchedChunk | None = chunk,
            ) -> FetchedChunk:
                asked.append(request.offset)
                if chunk is None:
                    raise Refused("not_here", "gone")
                return chunk

            serve(s.proposer.network, FETCH, on_fetch)
            assert await s.refused(epoch.root) == "no_data", name
            assert len(asked) <= 7, name


async def test_units_that_the_judge_never_accepted_are_named(signing) -> None:
    async with signing() as s:
        (known,) = await s.accepted(b"one")
        foreign, other = s.scenario.bundle(b"two"), s.scenario.bundle(b"three")
        root = await s.publish(s.epoch([known, foreign, other]))
        answer = await s.ask(root)
        assert answer["signature"] == b""
        assert set(answer["unknown"]) == {foreign.unit_id, other.unit_id}
        assert await s.cosigned() == 0


async def test_another_receipt_for_an_accepted_unit_is_named_too(signing) -> None:
    """Truly signed by both sides, and still not what was judged."""
    async with signing() as s:
        (known,) = await s.accepted(b"one")
        (item,) = signed_receipts(known)
        for changes in ({"units": 10**6}, {"commitment": b"x" * 32}, {"epoch": 0}, {"seq": 9}):
            receipt = item.receipt.model_copy(update=changes)
            dear = SignedReceipt(
                receipt,
                receipt.sign(s.scenario.rival.context.key, DOMAIN),
                receipt.sign(s.scenario.owner.context.key, DOMAIN),
            )
            epoch = build_epoch(
                [dear],
                s.scenario.ledger.owners,
                domain=DOMAIN,
                pool_id=POOL,
                epoch=1,
                price=PRICE,
                available=BUDGET,
                earned={},
            )
            answer = await s.ask(await s.publish(epoch))
            assert answer == {"signature": b"", "unknown": (known.unit_id,)}, changes


async def test_sums_orders_and_accounts_that_are_wrong_are_not_signed(signing) -> None:
    async with signing() as s:
        bundles = await s.accepted(b"one", b"two")
        epoch = s.epoch(bundles)
        first, second = epoch.data.receipts
        (payout,) = epoch.data.payouts
        thief = s.proposer.address
        wrong = {
            "order": s.changed(epoch, receipts=(second, first)),
            "twice": s.changed(epoch, receipts=(first, first.model_copy())),
            "account": s.changed(
                epoch,
                receipts=tuple(r.model_copy(update={"account": thief}) for r in (first, second)),
            ),
            "payout": s.changed(
                epoch, payouts=(payout.model_copy(update={"cumulative": payout.cumulative + 1}),)
            ),
            "stranger": s.changed(
                epoch, payouts=(payout, payout.model_copy(update={"account": thief}))
            ),
            "signature": s.changed(
                epoch,
                receipts=(first.model_copy(update={"counter_signature": b"\x01" * 65}), second),
            ),
        }
        for name, bad in wrong.items():
            assert await s.refused(await s.publish(bad)) == "bad_epoch", name
        assert await s.cosigned() == 0


@pytest.mark.parametrize("price", [PRICE * 2, PRICE // 2, PRICE + 1, 1])
async def test_a_rate_that_is_not_the_pools_is_not_signed(signing, price: int) -> None:
    async with signing() as s:
        root = await s.publish(s.epoch(await s.accepted(b"one"), price=price))
        assert await s.refused(root) == "bad_epoch"


async def test_payouts_from_nowhere_are_not_signed(signing) -> None:
    async with signing() as s:
        bundles = await s.accepted(b"one")
        for account in (s.proposer.address, s.scenario.rival.address):
            root = await s.publish(s.epoch(bundles, earned={account: 10**18}))
            assert await s.refused(root) == "bad_epoch"


async def test_only_the_next_epoch_is_signed_and_nothing_is_paid_twice(signing) -> None:
    async with signing() as s:
        bundles = await s.accepted(b"one", b"two")
        for number in (2, 3, 2**63):
            early = await s.publish(s.epoch(bundles, epoch=number))
            assert await s.refused(early) == "not_next"
        first = s.epoch(bundles[:1])
        await s.publish(first)
        s.scenario.ledger.post(first.root, [s.proposer.address])
        judge = s.scenario.judge
        await eventually(lambda: judge.follower.history(POOL).complete(1))
        await eventually(lambda: s.scenario.validator.settlement.waiting == 1)
        assert await s.refused(await s.publish(s.epoch(bundles[1:]))) == "not_next"
        again = s.epoch(bundles, epoch=2, earned=first.earned)
        answer = await s.ask(await s.publish(again))
        assert answer == {"signature": b"", "unknown": (bundles[0].unit_id,)}
        second = s.epoch(bundles[1:], epoch=2, earned=first.earned)
        assert (await s.ask(await s.publish(second)))["signature"]


async def test_nothing_is_signed_on_top_of_what_may_yet_be_voided(signing) -> None:
    async with signing() as s:
        bundles = await s.accepted(b"one", b"two")
        first = s.epoch(bundles[:1])
        await s.publish(first)
        s.scenario.ledger.window = 3600
        s.scenario.ledger.post(first.root, [s.proposer.address])
        history = s.scenario.judge.follower.history(POOL)
        await eventually(lambda: history.complete(1) and history.last == 1)
        second = await s.publish(s.epoch(bundles[1:], epoch=2, earned=first.earned))
        assert await s.refused(second) == "not_final"
        s.scenario.ledger.void(POOL)
        await eventually(lambda: s.scenario.validator.settlement.waiting == 2)
        root = await s.publish(s.epoch(bundles))
        assert (await s.ask(root))["signature"]


async def test_what_follows_unpublished_leaves_is_not_signed(signing) -> None:
    async with signing() as s:
        bundles = await s.accepted(b"one", b"two")
        hidden = s.epoch(bundles[:1])
        s.scenario.ledger.post(hidden.root, [s.proposer.address])
        await eventually(lambda: s.scenario.judge.follower.history(POOL).last == 1)
        second = await s.publish(s.epoch(bundles[1:], epoch=2, earned=hidden.earned))
        assert await s.refused(second) == "not_next"


async def test_what_one_pool_accepted_is_nothing_to_another(signing) -> None:
    async with signing() as s:
        bundles = await s.accepted(b"one")
        root = await s.publish(s.changed(s.epoch(bundles), pool_id=99))
        answer = await s.ask(root)
        assert answer == {"signature": b"", "unknown": (bundles[0].unit_id,)}
        assert await s.cosigned() == 0


async def test_a_proposer_that_serves_slowly_keeps_nobody_else_waiting(signing) -> None:
    async with signing() as s:
        bundles = await s.accepted(b"one")
        judge, ledger = s.scenario.judge, s.scenario.ledger
        ledger.weights[s.stranger.address] = 1
        asked = trio.Event()

        async def never(peer_id: str, request: FetchRequest) -> FetchedChunk:
            asked.set()
            await trio.sleep_forever()
            raise AssertionError

        serve(s.stranger.network, FETCH, never)
        slow = CosignRequest(root=s.epoch(bundles, attempt=8).root.to_bytes())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(s.stranger.ask, judge.peer_id, COSIGN, slow)
            await asked.wait()
            assert await s.refused(slow.root, s.stranger) == "busy"
            answer = await s.ask(await s.publish(s.epoch(bundles)))
            assert answer["signature"]
            nursery.cancel_scope.cancel()


async def test_what_was_not_signed_is_not_kept(signing) -> None:
    async with signing() as s:
        root = await s.publish(s.epoch([s.scenario.bundle(b"never judged")]))
        assert (await s.ask(root))["signature"] == b""
        assert await s.scenario.judge.follower.blobs.get(root.data_hash) is None
