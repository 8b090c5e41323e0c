"""`make bench`: what the engine, its networks and its codecs make of this machine, each beside what it is compared with."""
