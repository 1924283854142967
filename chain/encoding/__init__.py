"""What travels between us and a chain, as bytes and as values: ABIs, records, structs. Pure."""
