"""The demo: the whole way on real data, through public commands only, so that it is documentation, too."""
