"""Chat, export, servers."""
