"""From a produced unit to a proof bundle at the validators."""
