"""What nodes say to one another: methods and their bodies, content by hash, addresses."""
