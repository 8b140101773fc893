"""The HTTP API: one application, served on a UNIX socket to the CLI of this server, and its client."""
