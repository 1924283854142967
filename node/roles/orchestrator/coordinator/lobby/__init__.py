"""Workers that have done nothing yet: whom to invite, who stays known, whom to plan with.

Identities are free, and so is whatever they say of themselves. What they cannot choose freely is
where they are connected from and what they have at stake, so places are shared out by these.
"""
