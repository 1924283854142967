"""What nodes say to one another: messages, requests, content by hash, addresses."""
