"""Guards around py-libp2p 0.8.1: each module closes one group of its defects.

The rest of the package never works around the library itself; it takes the guarded parts that
`p2p.host` assembles. Every guard has a regression test that drives the raw behaviour through it.
"""
