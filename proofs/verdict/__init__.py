"""From measures to a verdict, and to the stage that is to blame."""
