"""Sending transactions exactly once, whatever crashes."""
