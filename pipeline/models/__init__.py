"""Which models exist (catalogue), where their files are (store), and how each library's network is opened (adapters)."""
