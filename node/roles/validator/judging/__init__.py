"""From a bundle to a signed verdict."""
