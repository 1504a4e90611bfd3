"""``fairlead cni``: the CNI plugins where runtimes look for them."""
