"""Dishonesty on purpose, for tests and simulations; nothing honest imports it."""
