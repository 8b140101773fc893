"""A third machine that decides between two servers that have lost each other: our own service, or etcd."""
