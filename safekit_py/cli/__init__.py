"""The command ``safekit-py``: click commands that speak to the agent through the control API."""
