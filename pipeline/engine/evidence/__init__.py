"""What a stage keeps so that its work can be checked later."""
