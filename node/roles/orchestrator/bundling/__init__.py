"""From a finished unit to its proof bundle: claims are collected and checked."""
