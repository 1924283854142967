"""Who is connected and who should be: addresses, the DHT, scores, the mesh, its upkeep."""
