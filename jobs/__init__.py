"""Which photographs, and again after a crash: spec, manifest, run, query, verify, submit, command line."""
