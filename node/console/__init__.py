"""What commands and the simulation share: tables and JSON on stdout, progress and questions on
stderr."""
