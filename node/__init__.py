"""The node: composes p2p, pipeline, proofs and chain into roles, and gives them a command line."""
