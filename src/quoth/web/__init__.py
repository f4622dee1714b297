"""What pages in a browser share: their files, what stands before a request, errors, connections, binary payloads."""
