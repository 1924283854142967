"""How a bundle comes in: who may send it, what room it takes, and if it is what was offered."""
