"""How far from a verifier's own numbers is still honest, and how much is checked."""
