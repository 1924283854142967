"""What a stage signs about its work, and that it never signs two versions of it."""
