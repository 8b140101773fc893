"""The API over the network: a process of its own that says who calls, and passes calls to the agent."""
