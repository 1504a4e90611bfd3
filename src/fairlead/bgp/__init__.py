"""BGP between nodes and with the routers around them: BIRD speaks it, told by a file and asked through its socket."""
