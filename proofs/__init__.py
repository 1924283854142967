"""Everything that is proven, judged and paid, as pure functions of what was signed and measured.

Rooms, each of which imports only those below it:

    verdict                            from measures to a verdict, and to the stage to blame
    thresholds  evidence  settlement   what is still honest; what a ring says; what an epoch pays
    sampling  toploc                   noise and the choice of a token; proofs of hidden states
    encoding                           how everything signed or hashed is written

Nothing here reads a clock, a socket or a random number. `proofs.toploc` alone imports torch.
"""
