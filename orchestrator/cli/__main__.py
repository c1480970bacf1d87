"""`python -m orchestrator.cli`: the `baton` command where its script is not on PATH."""

from orchestrator.cli import main

if __name__ == "__main__":
    main()
