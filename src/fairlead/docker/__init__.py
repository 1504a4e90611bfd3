"""Docker's edge: Fairlead as a remote network driver and IPAM driver of libnetwork, which translates and decides nothing."""
