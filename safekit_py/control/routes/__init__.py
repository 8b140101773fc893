"""The routes of the control API, one file a subject; each gives one router for an agent."""
