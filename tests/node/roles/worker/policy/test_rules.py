"""What an operator's rules say of one offer."""

from __future__ import annotations

from node.config.schema import PolicySection
from node.roles.worker.policy.rules import Offer, Rules
from node.roles.worker.policy.settings import rules_of

MODEL, OTHER = b"m" * 32, b"o" * 32
NOON, NIGHT = 12 * 60, 23 * 60


def code(rules: Rules, offer: Offer, minute: int = NOON) -> str:
    declined = rules.before_the_chain(offer, minute) or rules.price(offer)
    return "" if declined is None else declined.code


def test_without_a_policy_everything_is_served() -> None:
    assert code(rules_of(PolicySection()), Offer(7, MODEL)) == ""


def test_only_pools_that_are_allowed_and_not_refused() -> None:
    rules = rules_of(PolicySection(pools=(1, 2), refused_pools=(2,)))
    assert [code(rules, Offer(p, MODEL)) for p in (1, 2, 3)] == ["", "policy_pool", "policy_pool"]
    some = rules_of(PolicySection(refused_pools=(2,)))
    assert [code(some, Offer(p, MODEL)) for p in (1, 2)] == ["", "policy_pool"]


def test_models_are_allowed_by_their_name_in_the_store_or_by_id() -> None:
    store = [("small", MODEL)]
    by_name = rules_of(PolicySection(models=("small",)), store)
    assert [code(by_name, Offer(1, m)) for m in (MODEL, OTHER)] == ["", "policy_model"]
    by_id = rules_of(PolicySection(models=(OTHER.hex(),)), store)
    assert [code(by_id, Offer(1, m)) for m in (MODEL, OTHER)] == ["policy_model", ""]
    unknown = rules_of(PolicySection(models=("lost",)), store)
    assert code(unknown, Offer(1, MODEL)) == "policy_model"


def test_a_pool_must_pay_the_least_price_and_pay_for_work() -> None:
    rules = Rules(min_price=10)
    assert code(rules, Offer(1, MODEL, price=10)) == ""
    assert code(rules, Offer(1, MODEL, price=9)) == "policy_price"
    assert code(rules, Offer(1, MODEL)) == "policy_price"


def test_outside_its_hours_a_node_waits_and_says_until_when() -> None:
    rules = Rules(hours=((22 * 60, 6 * 60),))
    assert code(rules, Offer(1, MODEL), NIGHT) == ""
    declined = rules.before_the_chain(Offer(1, MODEL), NOON)
    assert declined is not None
    assert declined.waits
    assert declined.reason == "this node works again from 22:00"


def test_a_full_disk_waits() -> None:
    assert Rules().room(10**15) is None
    assert Rules(disk=100).room(99) is None
    full = Rules(disk=100).room(100)
    assert full is not None
    assert full.waits
