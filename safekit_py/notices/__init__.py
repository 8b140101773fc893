"""Notifications: the process that sends them, beside the agent."""
