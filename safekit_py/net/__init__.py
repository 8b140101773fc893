"""Heartbeats on the wire: authenticated datagrams, and the thread that sends and receives them."""
