"""The network's contracts, for one key, and a chain to develop on.

Layers, each importing only those to its left:

    errors < encoding < endpoint, database < transactions < deployment < events < calls < client,
    devnet

Begin with `chain.client.open_chain`; each subject (pools, settlement, disputes, …) is a module of
`chain.calls`. Of the rest of the project, only `proofs.encoding` is imported.
"""
