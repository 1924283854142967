"""Calling the deployed contracts: one module for each subject, over one caller."""
