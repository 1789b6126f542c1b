"""What a request passes before its route, and an answer after it."""
