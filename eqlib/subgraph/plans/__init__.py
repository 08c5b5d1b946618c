"""Which subgraphs there are, and where their pairs of nodes lie."""
