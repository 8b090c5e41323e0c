"""`python -m jobs`: the same command line as `albumen`."""

from jobs.cli import main

main()
