"""The chain as a node uses it: joining, deploying, the receipt domain, blocks as randomness.

A node without a chain never imports web3, which alone takes seconds. So whatever such a node may
load imports only the light parts of `chain` at the head of its file (`chain.errors`,
`chain.encoding`, `chain.events.settlement_events`), and the others where they are used or, for type
hints, under `TYPE_CHECKING`.
"""
