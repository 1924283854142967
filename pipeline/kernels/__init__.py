"""Arithmetic of our own: fp32 whose bits do not depend on who shares a batch."""
