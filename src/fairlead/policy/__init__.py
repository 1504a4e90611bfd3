"""Who may talk to whom: from namespaces, network policies and endpoints to rows. Pure: the same objects, the same rows."""
