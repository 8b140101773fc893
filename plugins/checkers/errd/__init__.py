"""``<errd>``: the processes and services of an application, and what follows when one is missing."""
